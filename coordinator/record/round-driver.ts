import type { BlobScope } from '../../storage/blob-collector.ts';
import { type CurrentCheckpoint, machineSettings, type RunContext } from '../context.ts';
import type { FailpointName } from '../failpoints.ts';
import { type MergeCandidate, type Prepared, RoundMerge } from '../merge/merge-round.ts';
import { dueAt, isOver, reduce } from '../round/round-machine.ts';
import type { JobState, MachineEvent } from '../round/state.ts';
import { Outbox, type OutboxDeps } from './outbox.ts';
import { Notifier } from './receipts.ts';
import { restoreState } from './restore.ts';
import { RoundRecord } from './round-record.ts';

/**
 * Moves the state machine on: each transition is decided, written down whole in one transaction, and only then acted
 * upon. Whatever is told to anybody has been durable before.
 */
export class RoundDriver {
  readonly recorder: RoundRecord;
  readonly #context: RunContext;
  readonly #outboxDeps: OutboxDeps;
  readonly #work: RoundMerge;
  #machine: JobState;
  #candidate: MergeCandidate | null = null;
  #cancelTick: () => void = () => {};
  #tickAt: number | null = null;
  /** The slow step that is running, if any. */
  #working: Promise<void> = Promise.resolve();

  constructor(_options: object, deps: Omit<OutboxDeps, 'notifier'>) {
    this.#context = deps.context;
    const { stored, manifest, signal } = this.#context;
    const { store, clock, log, network } = this.#context.deps;
    this.recorder = new RoundRecord({}, deps);
    this.#outboxDeps = { ...deps, notifier: new Notifier({ signal }, { network, clock, log }) };
    const onLighter = (reason: string): void =>
      this.transact((outbox) => outbox.event({ type: 'evaluation-lighter', reason }));
    this.#work = new RoundMerge({}, { ...deps, onLighter });
    const settings = machineSettings(manifest);
    this.#machine = restoreState(stored, this.recorder.heads.head, settings, store, clock);
  }

  get state(): JobState {
    return this.#machine;
  }

  /** How late the machine's next tick is; 0 while it is not due. */
  get overdueMs(): number {
    return this.#tickAt === null ? 0 : Math.max(0, this.#context.deps.clock.monotonic() - this.#tickAt);
  }

  get checkpoint(): CurrentCheckpoint {
    return this.recorder.checkpoint;
  }

  /** Takes up the work that a killed coordinator has left. */
  start(): void {
    this.recorder.heads.publish();
    if (this.#machine.phase === 'validating') this.#merge(this.#machine.round);
    this.#arm();
  }

  /** No further step; resolves when the one at hand has ended. */
  async stop(): Promise<void> {
    this.#cancelTick();
    await this.#working;
  }

  /** Writes something down that does not concern the machine. */
  transact(record: (outbox: Outbox) => void): void {
    this.#context.signal.throwIfAborted();
    const outbox = this.#outbox();
    this.#durably(() => record(outbox));
    outbox.flush();
  }

  /**
   * One transition.
   * @param record writes what belongs to the event itself into the same transaction
   * @param failpoint passed when that is durable
   * @throws the reason of the coordinator's stop; what the store throws, and then the machine is where it was
   */
  dispatch(event: MachineEvent, record?: (outbox: Outbox) => void, failpoint?: FailpointName): void {
    const { job, deps, signal } = this.#context;
    signal.throwIfAborted();
    const now = deps.clock.now();
    // Rounds are timed by a clock that nobody sets; what is recorded and told has the calendar's time.
    const { state, effects } = reduce(this.#machine, event, deps.clock.monotonic());
    const outbox = this.#outbox();
    this.#durably(() => {
      record?.(outbox);
      if (state.ending !== this.#machine.ending) deps.store.jobs.setEnding(job, state.ending);
      if (event.type === 'resume' && this.#machine.phase === 'paused') {
        deps.store.jobs.setResumed(job, this.#machine.round);
      }
      for (const effect of effects) this.recorder.effect(effect, state, now, outbox);
    });
    const wasOver = isOver(this.#machine);
    this.#machine = state;
    const headed = effects.some(({ type }) => type === 'open' || type === 'announce');
    if (failpoint) deps.failpoint(failpoint);
    if (effects.some(({ type }) => type === 'close')) deps.failpoint('round-closed');
    if (headed) deps.failpoint('head-recorded');

    outbox.flush();
    if (headed) this.recorder.heads.publish();
    for (const effect of effects) {
      if (effect.type === 'merge') this.#merge(effect.round);
      if (effect.type === 'commit') this.#commit();
    }
    if (isOver(state) && !wasOver) {
      deps.validator
        .release(job)
        .catch((error: unknown) => deps.log.warn({ error }, 'validator-not-released'));
    }
    this.#arm();
  }

  #outbox(): Outbox {
    return new Outbox({ now: this.#context.deps.clock.now() }, this.#outboxDeps);
  }

  /** A store that cannot be written to is the end: what we would say next might not be true after a restart. */
  #durably(work: () => void): void {
    try {
      this.#context.deps.store.transaction(work);
    } catch (error) {
      this.#context.deps.fatal(error);
      throw error;
    }
  }

  #arm(): void {
    this.#cancelTick();
    const { clock } = this.#context.deps;
    const at = this.#context.signal.aborted ? null : dueAt(this.#machine, clock.monotonic());
    this.#tickAt = at;
    const tick = (): void => this.dispatch({ type: 'tick' });
    this.#cancelTick = at === null ? () => {} : clock.after(Math.max(0, at - clock.monotonic()), tick);
  }

  #merge(round: number): void {
    this.#inBackground(async () => {
      const result = await this.#work.merge(round, this.recorder.checkpoint);
      if ('refused' in result) return () => this.dispatch({ type: 'refused', reason: result.refused });
      this.#context.deps.failpoint('merged');
      this.#candidate = result;
      return () => this.dispatch({ type: 'merged' });
    });
  }

  #commit(): void {
    const candidate = this.#candidate!;
    this.#candidate = null;
    this.#inBackground(async (scope) => {
      const prepared = await this.#work.prepare(candidate, scope);
      return () => this.#committed(prepared);
    });
  }

  #committed(prepared: Prepared): void {
    const record = (outbox: Outbox): void => this.recorder.commit(prepared, outbox);
    this.dispatch({ type: 'committed' }, record, 'checkpoint-recorded');
  }

  /** Runs a slow step; what breaks in it is the machine's to deal with, unless we are stopping. */
  #inBackground(step: (scope: BlobScope) => Promise<() => void>): void {
    const { signal, deps, manifest, collector } = this.#context;
    const run = async (scope: BlobScope): Promise<void> => {
      if (signal.aborted) return;
      const next = await step(scope).catch((error: unknown) => () => {
        deps.log.error({ job: manifest.name, round: this.#machine.round, error }, 'round-work-failed');
        const reason = error instanceof Error ? error.message : String(error);
        this.dispatch({ type: 'stumbled', reason });
      });
      if (!signal.aborted) next();
    };
    // An error from here has been through `durably`, or is a killed simulation's.
    this.#working = this.#working
      .then(() => collector.withScope(run))
      .catch((error: unknown) => {
        if (!signal.aborted) deps.fatal(error);
      });
  }
}
