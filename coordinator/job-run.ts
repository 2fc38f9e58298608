import type { Clock } from '../protocol/clock.ts';
import { SwarmError } from '../protocol/errors.ts';
import { HEARTBEAT_INTERVAL_MS } from '../protocol/limits.ts';
import { jobTopic } from '../protocol/topics.ts';
import type { AcceptanceView, Refusal } from './acceptance.ts';
import type { CurrentCheckpoint, JobContext } from './context.ts';
import { keepEvidence } from './evidence.ts';
import { clip } from './heads.ts';
import { type Accepted, Intake, type Subject } from './intake.ts';
import { isOpen, isOver } from './machine.ts';
import { sealReceipt } from './notifier.ts';
import type { Outbox } from './outbox.ts';
import { Presence, type PresentPeer } from './presence.ts';
import { Roster } from './roster.ts';
import type { JobEvent, JobState } from './state.ts';
import { Stepper } from './stepper.ts';
import type { StoredReceipt } from './store/store.ts';

/** The newest head is said again this often, for nodes that gossip did not reach. */
export const HEAD_REPEAT_MS = 5_000;
/** Refusals recorded per sender and round; a flood beyond is refused all the same, and only counted. */
export const RECORDED_REFUSALS = 32;
/** Senders whose refusals are recorded per round. */
const REFUSED_SENDERS = 4096;

/** One job at work: what its nodes say goes in, and the machine moves on. */
export class JobRun {
  readonly context: JobContext;
  readonly roster: Roster;
  private readonly stepper: Stepper;
  private readonly presence: Presence;
  private readonly intake: Intake;
  /** Refusals recorded in this round, by sender. */
  private readonly refusals = new Map<string, number>();
  private refusalsRound = 0;
  private readonly cleanups: (() => void)[] = [];

  constructor(_options: object, deps: { context: JobContext }) {
    this.context = deps.context;
    const { job, layout, signal, limiter, vault } = this.context;
    const { store, clock, log, network, blobs, arithmetic, failpoint } = this.context.deps;
    this.roster = new Roster({}, deps);
    this.stepper = new Stepper({}, { ...deps, onReceipt: (receipt) => this.roster.note(receipt) });
    this.presence = new Presence(
      { job },
      {
        clock,
        limiter,
        log,
        admitted: (peer) => this.roster.has(peer),
        onCome: (peer) => this.peerCame(peer),
        onReady: (peer) => this.peerReady(peer),
        onIdle: (peer, round) => this.peerIdle(peer, round),
        onGone: (peer, reason) => this.peerGone(peer, reason),
      },
    );
    for (const peer of Object.keys(this.state.present)) this.presence.expect(peer);
    this.intake = new Intake(
      { layout, signal },
      {
        network,
        blobs,
        vault,
        arithmetic,
        limiter,
        clock,
        log,
        failpoint,
        view: () => this.view(),
        receiptOf: (peer, digest) => store.updates.receipt(job, peer, digest),
        record: (accepted) => this.record(accepted),
        refused: (refusal, subject) => this.refused(refusal, subject),
      },
    );
  }

  start(): void {
    const { job, deps } = this.context;
    if (isOver(this.state)) return;
    this.cleanups.push(
      deps.network.subscribe(jobTopic(job, 'updates'), ({ from, data }) => {
        const { verdict, receipt } = this.intake.receive(data, from);
        // Nobody waits for it here; its author asks.
        receipt.catch((error: unknown) => deps.log.warn({ peer: from, error }, 'update-not-taken'));
        return verdict;
      }),
      deps.network.subscribe(jobTopic(job, 'peers'), ({ from, data }) => this.presence.receive(data, from)),
      every(deps.clock, HEARTBEAT_INTERVAL_MS, () => this.presence.sweep()),
      every(deps.clock, HEAD_REPEAT_MS, () => this.stepper.recorder.heads.publish()),
    );
    this.stepper.start();
  }

  /** Stops taking part; the record stays as it is. The context's signal has been aborted before. */
  async stop(): Promise<void> {
    for (const cleanup of this.cleanups.splice(0)) cleanup();
    await this.stepper.stop();
  }

  get state(): JobState {
    return this.stepper.state;
  }

  get checkpoint(): CurrentCheckpoint {
    return this.stepper.checkpoint;
  }

  /** The newest signed head. */
  get head(): Uint8Array {
    return this.stepper.recorder.heads.envelope;
  }

  present(peer: string): PresentPeer | null {
    return this.presence.get(peer);
  }

  /** When a node was last heard of since this coordinator started; null when it was not. */
  seenAt(peer: string): number | null {
    return this.presence.seenAt(peer);
  }

  /** How late the state machine is with what it has to do by itself. */
  get overdueMs(): number {
    return this.stepper.overdueMs;
  }

  /** Rounds that ended without a checkpoint. */
  get nullRounds(): number {
    return this.stepper.recorder.nullRounds;
  }

  /** Seconds until the open round's deadline; null while none is open. */
  secondsLeft(): number | null {
    const { current } = this.state;
    if (!current || !isOpen(this.state)) return null;
    const deadline = Math.max(current.openedAt + current.deadlineMs, current.notBefore);
    return Math.max(0, (deadline - this.context.deps.clock.now()) / 1000);
  }

  /** Nodes that have joined and not been lost, ready or not. */
  get presentCount(): number {
    return this.presence.size;
  }

  /** @throws SwarmError NOT_ADMITTED, JOB_FULL */
  join(peer: string, asked: { invite: string | null; name: string; agent: string; engine: string }): void {
    const { job, deps } = this.context;
    const { entry, changed } = this.roster.join(peer, asked);
    if (changed) this.stepper.transact(() => deps.store.peers.admit(job, entry));
    if (!isOver(this.state)) this.presence.join(peer);
  }

  leave(peer: string): void {
    this.presence.leave(peer);
  }

  /**
   * An update sent straight to the coordinator; answers with its signed receipt.
   * @throws SwarmError BUSY
   */
  async submit(peer: string, envelope: Uint8Array): Promise<Uint8Array> {
    return this.seal(await this.intake.receive(envelope, peer).receipt);
  }

  /** The newest receipt of a peer's update, signed; null when there is none. */
  receipt(peer: string, digest: string): Uint8Array | null {
    const found = this.context.deps.store.updates.receipt(this.context.job, peer, digest);
    return found && this.seal(found);
  }

  /** What the operator asks for. @throws SwarmError JOB_OVER */
  operate(event: Extract<JobEvent, { type: 'pause' | 'resume' | 'stop' }>): void {
    const { phase } = this.state;
    if (isOver(this.state)) {
      throw new SwarmError('JOB_OVER', `the job is ${phase}; nothing about it can be changed`, { phase });
    }
    this.stepper.dispatch(event, (outbox) => {
      if (event.type === 'resume' && phase === 'paused') outbox.event({ type: 'resumed' });
    });
  }

  private seal(receipt: StoredReceipt): Uint8Array {
    return sealReceipt(this.context.job, receipt, this.context.deps.network.signer);
  }

  private peerCame(peer: string): void {
    const { name, engine } = this.roster.get(peer)!;
    this.stepper.transact((outbox) => outbox.event({ type: 'peer-joined', peer, name, engine }));
  }

  private peerReady(peer: string): void {
    this.stepper.dispatch({ type: 'peer-ready', peer, speed: this.roster.get(peer)?.speed ?? 0 });
  }

  /** A trainer that has died costs its node the round; nobody need wait for what will not come. */
  private peerIdle(peer: string, round: number): void {
    const { current } = this.state;
    if (current?.number !== round || !isOpen(this.state) || this.intake.inWork(round, peer) !== null) return;
    const awaited = (list: readonly string[]) => !list.includes(peer);
    if (current.assigned.includes(peer) && awaited(current.delivered) && awaited(current.left)) {
      this.stepper.dispatch({ type: 'gave-up', peer, round });
    }
  }

  private peerGone(peer: string, reason: 'left' | 'silent'): void {
    const name = this.roster.get(peer)?.name ?? '';
    this.stepper.dispatch({ type: 'peer-gone', peer, reason }, (outbox) =>
      outbox.event({ type: 'peer-lost', peer, name, reason }),
    );
  }

  private view(): AcceptanceView {
    const { job, stored, manifest, layout, deps } = this.context;
    const { state } = this;
    const closed = state.current !== null && !isOpen(state);
    return {
      job,
      term: stored.term,
      mergeRound: isOver(state) ? null : state.round + (closed ? 1 : 0),
      sequenceLength: manifest.training.sequenceLength,
      batchSize: manifest.training.batchSize,
      layout,
      round: (number) => this.stepper.recorder.round(number),
      admitted: (peer) => this.roster.has(peer),
      known: (round, peer) =>
        deps.store.updates.find(job, round, peer)?.digest ?? this.intake.inWork(round, peer),
    };
  }

  private record({ author, update, envelope }: Accepted): StoredReceipt {
    const { job, stored, deps } = this.context;
    const now = deps.clock.now();
    const { round, preset, tokens, payload, seconds, lossFirst, lossLast } = update;
    const { digest, size } = payload;
    const ms = Math.max(1, now - this.stepper.recorder.round(round)!.openedAt);
    const speed = (tokens * 1000) / ms;
    const late = !isOpen(this.state) || this.state.round !== round;
    const code = late ? 'late' : 'accepted';
    const detail = late ? `round ${round} had closed; the update counts with the next merge` : '';
    const common = { round, peer: author, digest };
    const receipt: StoredReceipt = { ...common, term: stored.term, code, detail, issuedAt: now };
    const evidence = keepEvidence(envelope);
    const write = (outbox: Outbox): void => {
      deps.store.updates.insert(job, {
        ...common,
        size,
        preset,
        tokens,
        lossLast,
        evidence,
        arrivedAt: now,
        late,
      });
      deps.store.blobs.use(job, 'update', round, [digest]);
      deps.store.peers.setSpeed(job, author, speed);
      outbox.receipt(receipt);
      const figures = { bytes: size, tokens, seconds, lossFirst, lossLast };
      outbox.event({ type: 'update', round, peer: author, code, detail, ...figures });
    };
    this.stepper.dispatch({ type: 'update', peer: author, round, ms, speed }, write, 'update-recorded');
    this.roster.setSpeed(author, speed);
    return receipt;
  }

  private refused({ code, detail: full }: Refusal, { peer, digest, update }: Subject): StoredReceipt {
    const { stored, deps } = this.context;
    const round = update?.round ?? this.state.round;
    const detail = clip(full);
    const issuedAt = deps.clock.now();
    const receipt: StoredReceipt = { term: stored.term, round, peer, digest, code, detail, issuedAt };
    if (!this.mayRecordRefusal(peer)) this.roster.note(receipt);
    else {
      this.stepper.transact((outbox) => {
        outbox.receipt(receipt);
        outbox.event({
          type: 'update',
          round,
          peer,
          code,
          detail,
          bytes: update?.payload.size ?? 0,
          tokens: update?.tokens ?? 0,
          seconds: update?.seconds ?? 0,
          lossFirst: update?.lossFirst ?? null,
          lossLast: update?.lossLast ?? null,
        });
      });
    }
    deps.log.warn({ peer, round, code, detail }, 'update-refused');
    return receipt;
  }

  private mayRecordRefusal(peer: string): boolean {
    if (this.refusalsRound !== this.state.round) this.refusals.clear();
    this.refusalsRound = this.state.round;
    const count = this.refusals.get(peer) ?? 0;
    if (count >= RECORDED_REFUSALS || (count === 0 && this.refusals.size >= REFUSED_SENDERS)) return false;
    this.refusals.set(peer, count + 1);
    return true;
  }
}

/** Calls again and again until cancelled. */
function every(clock: Clock, ms: number, callback: () => void): () => void {
  let cancel = clock.after(ms, function again() {
    cancel = clock.after(ms, again);
    callback();
  });
  return () => cancel();
}
