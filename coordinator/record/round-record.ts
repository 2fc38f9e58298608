import { ROUND_PEERS, STALE_ROUNDS } from '../../protocol/limits.ts';
import type { ReceiptCode } from '../../protocol/receipts.ts';
import { type CurrentCheckpoint, type RunContext, readCheckpoint } from '../context.ts';
import type { RoundFacts } from '../intake/header-checks.ts';
import type { Prepared } from '../merge/merge-round.ts';
import { ARRIVAL_ROUNDS } from '../round/close.ts';
import type { Preset } from '../round/plan.ts';
import type { Effect, JobState } from '../round/state.ts';
import type { Fate, StoredUpdate } from '../store/store.ts';
import { Heads } from './heads.ts';
import type { Outbox } from './outbox.ts';
import { Retention } from './retention.ts';

/** Rounds that updates can still name, and a few more that teach how long rounds take. */
const REMEMBERED_ROUNDS = Math.max(STALE_ROUNDS, ARRIVAL_ROUNDS) + 1;

/** What becomes of an update when its merge is through, as told to its author. */
const FATES: Record<Exclude<Fate, 'open' | 'merged'>, { code: ReceiptCode; detail: string }> = {
  'left-out': { code: 'left-out', detail: 'the held-out loss is better without this update' },
  'null-round': { code: 'null-round', detail: '' },
  outlier: { code: 'outlier', detail: "its norm is out of line with the other nodes' updates" },
};

/**
 * Writes the machine's effects down, inside the transaction of the transition that they belong to, and keeps what the
 * record says at hand: the newest head, the newest checkpoint, the rounds that updates may name.
 */
export class RoundRecord {
  readonly heads: Heads;
  readonly retention: Retention;
  readonly #context: RunContext;
  readonly #rounds = new Map<number, RoundFacts>();
  #newest: CurrentCheckpoint;
  /** Rounds that ended without a checkpoint. */
  nullRounds: number;

  constructor(_options: object, deps: { context: RunContext }) {
    this.#context = deps.context;
    const { job } = this.#context;
    const { store } = this.#context.deps;
    this.retention = new Retention({}, deps);
    this.heads = new Heads({ envelope: store.jobs.head(job)! }, deps);
    const [newest] = store.rounds.newestCheckpoints(job, 1);
    this.#newest = readCheckpoint(newest!, store.rounds.count(job, 'checkpoint'));
    this.nullRounds = store.rounds.count(job, 'refused') + store.rounds.count(job, 'short');
    for (const round of store.rounds.newest(job, REMEMBERED_ROUNDS)) this.#rounds.set(round.round, round);
  }

  get checkpoint(): CurrentCheckpoint {
    return this.#newest;
  }

  round(number: number): RoundFacts | null {
    return this.#rounds.get(number) ?? null;
  }

  /** A new checkpoint, and what that makes of the updates that were fixed for its round. */
  commit({ digest, checkpoint, envelope, residual, leftOut }: Prepared, outbox: Outbox): void {
    const { job, manifest, deps } = this.#context;
    const { store } = deps;
    const { round, adapter, delta } = checkpoint;
    const { heldOutLoss } = checkpoint.metrics;
    store.rounds.putCheckpoint(job, { round, digest, envelope, residual, heldOutLoss });
    store.blobs.use(job, 'job', 0, [digest]);
    store.blobs.use(job, 'adapter', round, [adapter.digest]);
    store.blobs.use(job, 'step', round, [delta!.digest, residual]);
    store.rounds.setOutcome(job, round, 'checkpoint');
    for (const update of store.updates.selected(job, round)) {
      const used = checkpoint.contributors.some(
        ({ peer, round: made }) => peer === update.peer && made === update.round,
      );
      if (used) store.updates.setFate(job, update.round, update.peer, 'merged');
      else this.#end(update, leftOut && same(update, leftOut) ? 'left-out' : 'outlier', outbox);
    }
    const { metrics, contributors } = checkpoint;
    outbox.event({
      type: 'checkpoint',
      round,
      digest,
      heldOutLoss: metrics.heldOutLoss,
      trainLoss: metrics.trainLoss,
      updates: contributors.length,
      tokens: metrics.tokens,
      tokensPerSecond: metrics.seconds > 0 ? metrics.tokens / metrics.seconds : 0,
      updateBytes: metrics.updateBytes,
      bytesPerParameter: metrics.updateBytes / contributors.length / manifest.adapter.parameters,
      seconds: metrics.seconds,
      drift: metrics.drift,
    });
    this.#newest = { digest, checkpoint, ordinal: this.#newest.ordinal + 1, residual };
    this.retention.retire(round, round, outbox);
  }

  /** @param state what the transition leads to */
  effect(effect: Effect, state: JobState, now: number, outbox: Outbox): void {
    if (effect.type === 'open') this.#open(effect, now, outbox);
    if (effect.type === 'close') this.#close(effect, state, now, outbox);
    if (effect.type === 'discard') this.#discard(effect, outbox);
    if (effect.type === 'announce') this.#announce(effect, state, now, outbox);
  }

  #open(effect: Extract<Effect, { type: 'open' }>, now: number, outbox: Outbox): void {
    const { job, deps } = this.#context;
    const { round, preset, assignments, deadlineMs } = effect;
    const facts: RoundFacts = { round, parent: this.#newest.digest, preset, openedAt: now, assignments };
    deps.store.rounds.open(job, { ...facts, deadlineMs: Math.ceil(deadlineMs) });
    this.#rounds.set(round, facts);
    for (const old of this.#rounds.keys()) if (old <= round - REMEMBERED_ROUNDS) this.#rounds.delete(old);
    this.#expire(round - STALE_ROUNDS - 1, outbox);
    outbox.event({ type: 'round-opened', round, peers: assignments.length, preset, deadlineMs });
    this.heads.record(
      { phase: 'training', round, preset, assignments, deadlineMs, reason: '', issuedAt: now },
      this.#newest,
    );
  }

  #close(
    { round, cause }: Extract<Effect, { type: 'close' }>,
    state: JobState,
    now: number,
    outbox: Outbox,
  ): void {
    const { job, deps } = this.#context;
    deps.store.rounds.close(job, round, now);
    // As many as a checkpoint can name; late ones that do not fit wait for the next.
    deps.store.updates.select(job, round, round - STALE_ROUNDS, ROUND_PEERS);
    const updates = deps.store.updates.selected(job, round).length;
    outbox.event({ type: 'round-closed', round, updates, assigned: state.current!.assigned.length, cause });
  }

  #discard({ round, reason, tried }: Extract<Effect, { type: 'discard' }>, outbox: Outbox): void {
    const { job, deps } = this.#context;
    const closed = deps.store.updates.selected(job, round);
    const own = deps.store.updates.ofRounds(job, round, round).filter(({ late }) => !late);
    // A round that never closed gives back its own; late ones of earlier rounds wait for the next merge.
    for (const update of closed.length > 0 ? closed : own) this.#end(update, 'null-round', outbox);
    deps.store.rounds.setOutcome(job, round, tried ? 'refused' : 'short');
    outbox.event({ type: 'null-round', round, reason });
    this.nullRounds++;
    this.retention.retire(round, this.#newest.checkpoint.round, outbox);
  }

  #announce(
    { phase, reason }: Extract<Effect, { type: 'announce' }>,
    state: JobState,
    now: number,
    outbox: Outbox,
  ): void {
    const { stored } = this.#context;
    const { heldOutLoss } = this.#newest.checkpoint.metrics;
    if (phase === 'paused') outbox.event({ type: 'paused', reason });
    if (phase === 'failed') outbox.event({ type: 'failed', reason });
    if (phase === 'finished') {
      outbox.event({
        type: 'finished',
        round: this.#newest.checkpoint.round,
        heldOutLoss,
        baseLoss: stored.baseLoss,
      });
    }
    if (phase === 'finished' || phase === 'failed') this.#expire(state.round, outbox);
    this.heads.record(
      {
        phase,
        round: state.round,
        preset: this.#lastPreset(),
        assignments: [],
        deadlineMs: 0,
        reason,
        issuedAt: now,
      },
      this.#newest,
    );
  }

  /** Gives back updates of rounds up to `last` that were late for every merge. */
  #expire(last: number, outbox: Outbox): void {
    const { job, deps } = this.#context;
    for (const update of deps.store.updates.unclaimed(job, last)) this.#end(update, 'null-round', outbox);
  }

  #end(update: StoredUpdate, fate: keyof typeof FATES, outbox: Outbox): void {
    const { job, stored, deps } = this.#context;
    const { round, peer, digest } = update;
    const { code, detail } = FATES[fate];
    deps.store.updates.setFate(job, round, peer, fate);
    outbox.receipt({
      term: stored.term,
      round,
      peer,
      digest,
      code,
      detail,
      issuedAt: deps.clock.now(),
    });
    outbox.event({ type: 'update-undone', round, peer, code, detail });
  }

  #lastPreset(): Preset {
    const { preset } = this.#context.manifest.rounds;
    return preset === 'auto' ? this.heads.head.preset : preset;
  }
}

function same(a: { peer: string; round: number }, b: { peer: string; round: number }): boolean {
  return a.peer === b.peer && a.round === b.round;
}
