import { isSwarmError, messageOf } from '../../common/errors.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import type { BlobScope } from '../../storage/blob-collector.ts';
import { lostBlob } from '../../storage/lost-blobs.ts';
import { Auditor } from '../audits/auditor.ts';
import type { RunContext } from '../context.ts';
import type { FailpointName } from '../failpoints.ts';
import { type MergeCandidate, type RollBack, RoundMerge } from '../merge/merge-round.ts';
import type { Scorers } from '../merge/scorers.ts';
import { newestShares } from '../peers/present-peer.ts';
import { isMerging, isOver, isRollingBack, orderReason } from '../round/job-phase.ts';
import { dueAt, reduce } from '../round/round-machine.ts';
import type { JobState, MachineEvent, RollBackOrder } from '../round/state.ts';
import type { UpdateKey } from '../store/update-key.ts';
import type { Ledger } from '../trust/ledger.ts';
import { writeCheckpoint, writeRollBack } from './commit.ts';
import { Outbox } from './outbox.ts';
import type { Receipts } from './receipts.ts';
import { restoreState } from './restore.ts';
import type { RoundRecord } from './round-record.ts';

/**
 * Drives a job's state machine. Computes each transition, writes it in one transaction, and only then acts on it and
 * sends messages. Peers therefore never receive a message about a state that a crash could undo.
 */
export class RoundDriver {
  readonly #context: RunContext;
  readonly #record: RoundRecord;
  readonly #receipts: Receipts;
  readonly #ledger: Ledger;
  readonly #merge: RoundMerge;
  readonly #auditor: Auditor;
  #state: JobState;
  #candidate: MergeCandidate | RollBack | null = null;
  #cancelTick: () => void = () => {};
  #tickAt: number | null = null;
  /** Time at which this process began to merge the closed round, on the monotonic clock; null if no round is closed. */
  #closedAt: number | null = null;
  /** Settles when the merge or commit in progress has ended. */
  #background: Promise<void> = Promise.resolve();

  constructor(deps: {
    context: RunContext;
    record: RoundRecord;
    receipts: Receipts;
    ledger: Ledger;
    scorers: Scorers;
  }) {
    this.#context = deps.context;
    this.#record = deps.record;
    this.#receipts = deps.receipts;
    this.#ledger = deps.ledger;
    const onFallback = (reason: string): void =>
      this.transact((outbox) => outbox.event({ type: 'evaluation-fallback', reason }));
    this.#merge = new RoundMerge({
      context: deps.context,
      scorers: deps.scorers,
      onFallback,
      record: (write, event) =>
        this.transact((outbox) => {
          write();
          if (event !== null) outbox.event(event);
        }),
    });
    this.#auditor = new Auditor({
      context: deps.context,
      onFallback,
      record: deps.record.audits,
      ledger: deps.ledger,
      transact: (write) => this.transact(write),
    });
    this.#state = restoreState(this.#context, this.#record.heads.newest.head);
  }

  get state(): JobState {
    return this.#state;
  }

  /** Number of milliseconds by which the state machine's next tick is late; 0 if the tick is not due yet. */
  get overdueMs(): number {
    return this.#tickAt === null ? 0 : Math.max(0, this.#context.deps.clock.monotonic() - this.#tickAt);
  }

  /** Milliseconds that the merge and the commit of the closed round have taken so far; 0 if no round is closed. */
  get mergeMs(): number {
    return this.#closedAt === null ? 0 : this.#context.deps.clock.monotonic() - this.#closedAt;
  }

  /** Holds the job: until `release` is called, it merges no round and signs no new head. */
  hold(): void {
    this.#state = { ...this.#state, isHeld: true };
  }

  /**
   * Publishes the newest head, and continues an audit that the last stop of the coordinator interrupted. Unless the job is
   * held, also continues an interrupted merge.
   */
  start(): void {
    this.#record.heads.publish();
    if (isMerging(this.#state)) this.#closedAt = this.#context.deps.clock.monotonic();
    if (this.#state.phase === 'validating' && !this.isHeld) this.#startMerge(this.#state.round);
    this.#auditor.follow(this.#state.phase);
    this.#scheduleTick();
  }

  /** Whether the job is held: it merges no round and signs no new head, because its nodes may have a later head. */
  get isHeld(): boolean {
    return this.#state.isHeld && !isOver(this.#state);
  }

  /** Ends the hold. Does nothing if the job is not held. */
  release(): void {
    if (this.isHeld && !this.#context.signal.aborted) this.dispatch({ type: 'released' });
  }

  /** Cancels the next tick. Resolves when the current merge or commit has ended, and the audit has stopped. */
  async stop(): Promise<void> {
    this.#cancelTick();
    await Promise.all([this.#background, this.#auditor.stop()]);
  }

  /** Runs `write` in a transaction that leaves the state machine unchanged. */
  transact(write: (outbox: Outbox) => void): void {
    this.#context.signal.throwIfAborted();
    const outbox = this.#outbox();
    this.#commit(() => write(outbox));
    outbox.flush();
  }

  /**
   * Makes one transition of the state machine.
   * @param write writes the records of the event itself, in the transaction of the transition
   * @param failpoint step that is reported to the failpoint after the transaction
   * @throws the reason of the coordinator's stop, or an error of the store. After an error, the state is unchanged.
   */
  dispatch(event: MachineEvent, write?: (outbox: Outbox) => void, failpoint?: FailpointName): void {
    const { job, deps, signal } = this.#context;
    signal.throwIfAborted();
    const now = deps.clock.now();
    // Rounds are timed by the monotonic clock, because it cannot be set. Records and messages have calendar time.
    const present = this.#ledger.standings.applyTo(this.#state.present);
    const { state, effects } = reduce({ ...this.#state, present }, event, deps.clock.monotonic());
    const outbox = this.#outbox();
    this.#commit(() => {
      write?.(outbox);
      if (state.ending !== this.#state.ending) deps.store.jobs.setEnding(job, state.ending);
      if (state.pauseCause !== this.#state.pauseCause) deps.store.jobs.setPauseCause(job, state.pauseCause);
      if (state.rollBack !== this.#state.rollBack) {
        deps.store.jobs.setRollBack(job, state.rollBack?.to ?? null, state.rollBack?.reason);
      }
      if (event.type === 'resume' && this.#state.phase === 'paused') {
        deps.store.jobs.setResumed(job, this.#state.round);
      }
      for (const effect of effects) this.#record.effect(effect, state, now, outbox);
    });
    const wasOver = isOver(this.#state);
    this.#state = state;
    this.#closedAt = isMerging(state) ? (this.#closedAt ?? deps.clock.monotonic()) : null;
    const headed = effects.some(({ type }) => type === 'open' || type === 'announce');
    if (failpoint) deps.failpoint(failpoint);
    if (effects.some(({ type }) => type === 'close')) deps.failpoint('round-closed');
    if (headed) deps.failpoint('head-recorded');

    outbox.flush();
    if (headed) this.#record.heads.publish();
    this.#auditor.follow(state.phase);
    for (const effect of effects) {
      if (effect.type === 'merge') this.#startMerge(effect.round);
      if (effect.type === 'commit') this.#startCommit();
    }
    if (isOver(state) && !wasOver) {
      deps.validator
        .release(job)
        .catch((error: unknown) => deps.log.warn({ error }, 'validator-not-released'));
    }
    this.#scheduleTick();
    // If the transition above leaves too few nodes that may get an assignment, suspended nodes may take part (see
    // `applyTo`). Dispatch an event without changes, so that the state machine counts these suspended nodes.
    if (state.phase === 'waiting' && this.#ledger.standings.applyTo(state.present) !== state.present) {
      this.dispatch({ type: 'judged', peers: {} });
    }
  }

  #outbox(): Outbox {
    return new Outbox({ context: this.#context, receipts: this.#receipts });
  }

  /**
   * Runs `write` in a transaction. A failed write ends the process. If the process continued, it would send messages
   * about a state that is not in the store, and after a restart the coordinator would contradict these messages.
   */
  #commit(write: () => void): void {
    this.#context.deps.beforeTransaction();
    try {
      this.#context.deps.store.transaction(write);
    } catch (error) {
      this.#context.deps.fatal(error);
      throw error;
    }
  }

  #scheduleTick(): void {
    this.#cancelTick();
    const { clock } = this.#context.deps;
    const at = this.#context.signal.aborted ? null : dueAt(this.#state, clock.monotonic());
    this.#tickAt = at;
    const tick = (): void => this.dispatch({ type: 'tick' });
    this.#cancelTick = at === null ? () => {} : clock.after(Math.max(0, at - clock.monotonic()), tick);
  }

  #startMerge(round: number): void {
    this.#inBackground(async () => {
      const result = isRollingBack(this.#state)
        ? this.#requestedRollBack(round, this.#state.rollBack!)
        : await this.#merge.run(round, this.#record.checkpoint);
      this.#judgeAuthors(round, 'merged' in result ? result.merged.outliers : []);
      if ('refused' in result) return () => this.dispatch({ type: 'refused', reason: result.refused });
      this.#context.deps.failpoint('merged');
      this.#candidate = result;
      return () => this.dispatch({ type: 'merged' });
    });
  }

  /**
   * Records the misdeeds among the updates of a merge. Sends the state machine the new shares of the nodes
   * whose updates have been scored.
   */
  #judgeAuthors(round: number, outliers: readonly UpdateKey[]): void {
    const { job, deps } = this.#context;
    const scored = deps.store.scores.ofMerge(job, round);
    const peers = scored.map(({ peer }) => [peer, { shares: newestShares(this.#context, peer) }] as const);
    this.dispatch({ type: 'judged', peers: Object.fromEntries(peers) }, (outbox) =>
      this.#ledger.judge(round, outliers, outbox),
    );
  }

  /** Returns the roll-back that the operator requested, or a refusal if the weights have been deleted meanwhile. */
  #requestedRollBack(round: number, order: RollBackOrder): RollBack | { refused: string } {
    const { to } = order;
    const { job, deps } = this.#context;
    const stored = deps.store.rounds.checkpoint(job, to);
    if (stored?.weights !== 'held') return { refused: `the weights of round ${to} have been deleted` };
    const { message } = verifyMessage('checkpoint', stored.envelope);
    return {
      round,
      parent: this.#record.checkpoint,
      to: message,
      reason: orderReason(order),
    };
  }

  #startCommit(): void {
    const candidate = this.#candidate!;
    this.#candidate = null;
    this.#inBackground(async (scope) => {
      const durable =
        'merged' in candidate
          ? await writeCheckpoint(candidate, scope, this.#context)
          : await writeRollBack(candidate, scope, this.#context);
      const write = (outbox: Outbox): void => this.#record.commit(durable, outbox);
      return () => this.dispatch({ type: 'committed' }, write, 'checkpoint-recorded');
    });
  }

  /** Runs a merge or commit. Reports a failure to the state machine, unless the coordinator is stopping. */
  #inBackground(work: (scope: BlobScope) => Promise<() => void>): void {
    const { signal, deps, manifest, collector } = this.#context;
    const run = async (scope: BlobScope): Promise<void> => {
      if (signal.aborted) return;
      const next = await work(scope).catch((error: unknown) => () => {
        deps.log.error({ job: manifest.name, round: this.#state.round, error }, 'merge-or-commit-failed');
        const reason = messageOf(error);
        const cause = isSwarmError(error, 'STORE_FULL') ? 'disk-full' : 'problem';
        const mayRecover = lostBlob(error) !== null;
        this.dispatch({ type: 'attempt-failed', reason, cause, mayRecover });
      });
      if (!signal.aborted) next();
    };
    // An error here is a failed write, which `#commit` has reported already. In the simulation, it can also be the
    // error with which a test kills the process.
    this.#background = this.#background
      .then(() => collector.withScope(run))
      .catch((error: unknown) => {
        if (!signal.aborted) deps.fatal(error);
      });
  }
}
