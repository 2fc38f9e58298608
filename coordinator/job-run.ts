import type { Clock } from '../common/clock.ts';
import { type HeadOrder, isNewer } from '../protocol/head-order.ts';
import { CLOCK_SKEW_MS, HEARTBEAT_INTERVAL_MS } from '../protocol/limits.ts';
import { jobTopic } from '../protocol/topics.ts';
import type { CurrentCheckpoint, RunContext } from './context.ts';
import { coordinatorError } from './errors.ts';
import type { JobFacts } from './intake/header-checks.ts';
import { Intake } from './intake/intake.ts';
import { UpdateRecorder } from './intake/update-recorder.ts';
import { memberToEvict } from './peers/eviction.ts';
import { Liveness, type LivePeer } from './peers/liveness.ts';
import { Roster } from './peers/membership.ts';
import { sealReceipt } from './record/receipts.ts';
import { RoundDriver } from './record/round-driver.ts';
import { isOpen, isOver } from './round/round-machine.ts';
import type { JobState, MachineEvent } from './round/state.ts';
import type { StoredReceipt } from './store/store.ts';

/** What a node says when it wants to take part. */
interface AskedToJoin {
  readonly invite: string | null;
  readonly name: string;
  readonly agent: string;
  readonly engine: string;
  /** By its own clock. */
  readonly sentAt: number;
}

/** One job at work: what its nodes say goes in, and the machine moves on. */
export class JobRun {
  readonly context: RunContext;
  readonly roster: Roster;
  readonly #stepper: RoundDriver;
  readonly #presence: Liveness;
  readonly #intake: Intake;
  readonly #cleanups: (() => void)[] = [];

  constructor(_options: object, deps: { context: RunContext }) {
    this.context = deps.context;
    const { job, layout, signal, limiter, collector } = this.context;
    const { store, clock, log, network, blobs, arithmetic, failpoint } = this.context.deps;
    this.roster = new Roster({}, deps);
    this.#stepper = new RoundDriver({}, { ...deps, onReceipt: (receipt) => this.roster.note(receipt) });
    this.#presence = new Liveness(
      { job },
      {
        clock,
        limiter,
        log,
        admitted: (peer) => this.roster.has(peer),
        onCome: (peer) => this.#peerCame(peer),
        onReady: (peer) => this.#peerReady(peer),
        onIdle: (peer, round) => this.#peerIdle(peer, round),
        onGone: (peer, reason) => this.#peerGone(peer, reason),
      },
    );
    for (const peer of Object.keys(this.state.present)) this.#presence.expect(peer);
    const book = new UpdateRecorder({}, { ...deps, stepper: this.#stepper, roster: this.roster });
    this.#intake = new Intake(
      { layout, signal },
      {
        network,
        blobs,
        collector,
        arithmetic,
        limiter,
        clock,
        log,
        failpoint,
        view: () => this.#view(),
        receiptOf: (peer, digest) => store.updates.receipt(job, peer, digest),
        record: (accepted) => book.record(accepted),
        refused: (refusal, subject) => book.refuse(refusal, subject),
      },
    );
  }

  start(): void {
    const { job, deps } = this.context;
    // What a killed process had let go and not yet deleted, perhaps with its last checkpoint.
    void this.#stepper.recorder.retention.tidy();
    if (isOver(this.state)) return;
    this.#cleanups.push(
      deps.network.subscribe(jobTopic(job, 'updates'), ({ from, data }) => {
        const { verdict, receipt } = this.#intake.receive(data, from);
        // Nobody waits for it here; its author asks.
        receipt.catch((error: unknown) => deps.log.warn({ peer: from, error }, 'update-not-taken'));
        return verdict;
      }),
      deps.network.subscribe(jobTopic(job, 'peers'), ({ from, data }) => this.#presence.receive(data, from)),
      every(deps.clock, HEARTBEAT_INTERVAL_MS, () => this.#presence.sweep()),
    );
    this.#stepper.start();
  }

  /** Stops taking part; the record stays as it is. The context's signal has been aborted before. */
  async stop(): Promise<void> {
    for (const cleanup of this.#cleanups.splice(0)) cleanup();
    await this.#stepper.stop();
  }

  get state(): JobState {
    return this.#stepper.state;
  }

  get checkpoint(): CurrentCheckpoint {
    return this.#stepper.checkpoint;
  }

  /** The newest signed head. */
  get head(): Uint8Array {
    return this.#stepper.recorder.heads.envelope;
  }

  /** The same, for somebody who knows a head already; null when it is no newer. */
  headAfter(known: HeadOrder | null): Uint8Array | null {
    const { head, envelope } = this.#stepper.recorder.heads;
    return isNewer(head, known) ? envelope : null;
  }

  present(peer: string): LivePeer | null {
    return this.#presence.get(peer);
  }

  /** When a node was last heard of since this coordinator started; null when it was not. */
  seenAt(peer: string): number | null {
    return this.#presence.seenAt(peer);
  }

  /** How late the state machine is with what it has to do by itself. */
  get overdueMs(): number {
    return this.#stepper.overdueMs;
  }

  /** Rounds that ended without a checkpoint. */
  get nullRounds(): number {
    return this.#stepper.recorder.nullRounds;
  }

  /** Seconds until the open round's deadline; null while none is open. */
  secondsLeft(): number | null {
    const { current } = this.state;
    if (!current || !isOpen(this.state)) return null;
    const deadline = Math.max(current.openedAt + current.deadlineMs, current.notBefore);
    return Math.max(0, (deadline - this.context.deps.clock.monotonic()) / 1000);
  }

  /** Nodes that have joined and not been lost, ready or not. */
  get presentCount(): number {
    return this.#presence.size;
  }

  /** Whether a node's joining would be written down: it comes, or comes back, or says something else of itself. */
  isNews(peer: string, about: Pick<AskedToJoin, 'name' | 'agent' | 'engine'>): boolean {
    return this.#presence.get(peer) === null || this.roster.differs(peer, about);
  }

  /** @throws SwarmError NOT_ADMITTED, CLOCK_OFF, JOB_FULL */
  join(peer: string, { sentAt, ...asked }: AskedToJoin): void {
    const { job, deps } = this.context;
    checkClock(sentAt, deps.clock.now());
    const { entry, changed } = this.roster.join(peer, asked, { vacate: () => this.#vacate() });
    if (changed) this.#stepper.transact(() => deps.store.peers.admit(job, entry));
    if (!isOver(this.state)) this.#presence.join(peer);
  }

  leave(peer: string): void {
    this.#presence.leave(peer);
  }

  /**
   * An update sent straight to the coordinator; answers with its signed receipt.
   * @throws SwarmError BUSY
   */
  async submit(peer: string, envelope: Uint8Array): Promise<Uint8Array> {
    return this.#seal(await this.#intake.receive(envelope, peer).receipt);
  }

  /** The newest receipt of a peer's update, signed; null when there is none. */
  receipt(peer: string, digest: string): Uint8Array | null {
    const found = this.context.deps.store.updates.receipt(this.context.job, peer, digest);
    return found && this.#seal(found);
  }

  /** What the operator asks for. @throws SwarmError JOB_OVER */
  operate(event: Extract<MachineEvent, { type: 'pause' | 'resume' | 'stop' }>): void {
    const { phase } = this.state;
    if (isOver(this.state)) {
      throw coordinatorError('JOB_OVER', `the job is ${phase}; nothing about it can be changed`, { phase });
    }
    this.#stepper.dispatch(event, (outbox) => {
      if (event.type === 'resume' && phase === 'paused') outbox.event({ type: 'resumed' });
    });
  }

  /** Makes a place free for a newcomer, if there is one. */
  #vacate(): boolean {
    const { job, deps } = this.context;
    const { current, round } = this.state;
    const seats = this.roster.all().map(({ peer, joinedAt }) => ({
      peer,
      joinedRound: this.roster.joinedRound(peer),
      seenAt: this.seenAt(peer) ?? joinedAt,
      present: this.#presence.get(peer) !== null,
      assigned: current?.assigned.includes(peer) ?? false,
      delivered: this.roster.lastDelivery(peer),
    }));
    const peer = memberToEvict(seats, round);
    if (peer === null) return false;
    this.#presence.forget(peer);
    this.#stepper.transact(() => deps.store.peers.remove(job, peer));
    this.roster.remove(peer);
    deps.log.info({ peer }, 'place-vacated');
    return true;
  }

  #seal(receipt: StoredReceipt): Uint8Array {
    return sealReceipt(this.context.job, receipt, this.context.deps.network.signer);
  }

  #peerCame(peer: string): void {
    const { name, engine } = this.roster.get(peer)!;
    this.#stepper.transact((outbox) => {
      this.#setGoodbye(peer, false);
      outbox.event({ type: 'peer-joined', peer, name, engine });
    });
  }

  #peerReady(peer: string): void {
    this.#stepper.dispatch({ type: 'peer-ready', peer, speed: this.roster.get(peer)?.speed ?? 0 });
  }

  /** A trainer that has died costs its node the round; nobody need wait for what will not come. */
  #peerIdle(peer: string, round: number): void {
    const { current } = this.state;
    if (current?.number !== round || !isOpen(this.state) || this.#intake.inWork(round, peer) !== null) return;
    const awaited = (list: readonly string[]) => !list.includes(peer);
    if (current.assigned.includes(peer) && awaited(current.delivered) && awaited(current.left)) {
      this.#stepper.dispatch({ type: 'gave-up', peer, round });
    }
  }

  #peerGone(peer: string, reason: 'left' | 'silent'): void {
    const name = this.roster.get(peer)?.name ?? '';
    this.#stepper.dispatch({ type: 'peer-gone', peer, reason }, (outbox) => {
      this.#setGoodbye(peer, reason === 'left');
      outbox.event({ type: 'peer-lost', peer, name, reason });
    });
  }

  /** For people, and also after a restart. */
  #setGoodbye(peer: string, saidGoodbye: boolean): void {
    if (this.roster.get(peer)?.saidGoodbye === saidGoodbye) return;
    this.context.deps.store.peers.setGoodbye(this.context.job, peer, saidGoodbye);
    this.roster.setGoodbye(peer, saidGoodbye);
  }

  #view(): JobFacts {
    const { job, stored, manifest, layout, deps } = this.context;
    const { state } = this;
    const closed = state.current !== null && !isOpen(state);
    return {
      job,
      term: stored.term,
      mergeUpdates: isOver(state) ? null : state.round + (closed ? 1 : 0),
      sequenceLength: manifest.training.sequenceLength,
      batchSize: manifest.training.batchSize,
      layout,
      round: (number) => this.#stepper.recorder.round(number),
      admitted: (peer) => this.roster.has(peer),
      known: (round, peer) =>
        deps.store.updates.find(job, round, peer)?.digest ?? this.#intake.inWork(round, peer),
    };
  }
}

/** @throws SwarmError CLOCK_OFF when a node's heartbeats would be taken for stale ones */
function checkClock(sentAt: number, now: number): void {
  const offMs = sentAt - now;
  if (Math.abs(offMs) <= CLOCK_SKEW_MS) return;
  const seconds = Math.round(Math.abs(offMs) / 1000);
  throw coordinatorError(
    'CLOCK_OFF',
    `the node's clock is ${seconds} s ${offMs > 0 ? 'ahead of' : 'behind'} the coordinator's, at most ${CLOCK_SKEW_MS / 1000} s are tolerated; let both be set over the network, and the node joins by itself`,
    { offMs, limitMs: CLOCK_SKEW_MS },
  );
}

/** Calls again and again until cancelled. */
function every(clock: Clock, ms: number, callback: () => void): () => void {
  let cancel = clock.after(ms, function again() {
    cancel = clock.after(ms, again);
    callback();
  });
  return () => cancel();
}
