import { safeText } from '../../common/text.ts';
import { DETAIL_CHARACTERS, ROUND_PEERS, STALE_ROUNDS } from '../../protocol/limits.ts';
import type { ReceiptCode } from '../../protocol/receipts.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import { AuditRecord } from '../audits/audit-record.ts';
import type { CurrentCheckpoint, RunContext } from '../context.ts';
import { isRollingBack, orderReason, restoredText } from '../round/job-phase.ts';
import type { Preset } from '../round/plan.ts';
import type { Effect, JobState } from '../round/state.ts';
import type { Fate, RoundFacts, StoredUpdate } from '../store/store.ts';
import { isSameUpdate } from '../store/update-key.ts';
import type { Ledger } from '../trust/ledger.ts';
import type { DurableCheckpoint } from './commit.ts';
import { Heads } from './heads.ts';
import type { Outbox } from './outbox.ts';
import { Retention } from './retention.ts';

/** Number of rounds kept in memory. Updates of older rounds are too late to be accepted. */
const REMEMBERED_ROUNDS = STALE_ROUNDS + 1;

/**
 * Codes and details of the receipts for accepted updates that do not become part of a checkpoint. A detail is empty if
 * the code alone tells the author what happened.
 */
const UNMERGED = {
  'left-out': { fate: 'left-out', code: 'left-out', detail: '' },
  harmful: { fate: 'left-out', code: 'harmful', detail: '' },
  'null-round': { fate: 'null-round', code: 'null-round', detail: 'the update arrived too late for a merge' },
  'rolled-back': {
    fate: 'null-round',
    code: 'null-round',
    detail: 'the coordinator went back to an earlier checkpoint instead of merging the round',
  },
  outlier: { fate: 'outlier', code: 'outlier', detail: '' },
} satisfies Record<string, { fate: Fate; code: ReceiptCode; detail: string }>;

/**
 * Writes the effects of the state machine to the store, in the transaction of their transition. Keeps in memory the
 * newest head, the newest checkpoint, and the rounds whose updates are still accepted.
 */
export class RoundRecord {
  readonly heads: Heads;
  readonly retention: Retention;
  readonly audits: AuditRecord;
  readonly #context: RunContext;
  readonly #ledger: Ledger;
  readonly #rounds = new Map<number, RoundFacts>();
  #checkpoint: CurrentCheckpoint;
  /** Text for the heads of rounds that begin with a restored checkpoint; empty if the newest checkpoint is a merge. */
  #restored: string;

  constructor(deps: { context: RunContext; ledger: Ledger }) {
    this.#context = deps.context;
    this.#ledger = deps.ledger;
    const { job } = this.#context;
    const { store } = this.#context.deps;
    this.retention = new Retention(deps);
    this.audits = new AuditRecord(deps);
    this.heads = new Heads(deps);
    const [newest] = store.rounds.newestCheckpoints(job, 1);
    const { digest, envelope, residual, restores, restoreReason } = newest!;
    this.#restored = restores === null ? '' : restoredText(restores, restoreReason ?? '');
    const checkpoint = verifyMessage('checkpoint', envelope).message;
    this.#checkpoint = { digest, checkpoint, ordinal: store.rounds.count(job, 'checkpoint'), residual };
    for (const round of store.rounds.newest(job, REMEMBERED_ROUNDS)) this.#rounds.set(round.round, round);
  }

  /** The newest checkpoint. */
  get checkpoint(): CurrentCheckpoint {
    return this.#checkpoint;
  }

  /** Returns a round whose updates are still accepted; null if the round has not opened or is too old. */
  round(number: number): RoundFacts | null {
    return this.#rounds.get(number) ?? null;
  }

  /** Records a new checkpoint and the fates of its round's updates. */
  commit(durable: DurableCheckpoint, outbox: Outbox): void {
    const { job, deps } = this.#context;
    const { store } = deps;
    const { digest, checkpoint, envelope, residual, rollBack } = durable;
    const { round, adapter, delta, metrics } = checkpoint;
    const { heldOutLoss } = metrics;
    const restores = rollBack?.to.round ?? null;
    const made = { round, digest, envelope, residual, heldOutLoss, restores };
    store.rounds.putCheckpoint(job, made, rollBack?.reason);
    this.#restored = rollBack ? restoredText(rollBack.to.round, rollBack.reason) : '';
    store.blobs.use(job, 'job', 0, [digest]);
    store.blobs.use(job, 'adapter', round, [adapter.digest]);
    const step = [delta?.digest ?? null, residual].filter((one) => one !== null);
    store.blobs.use(job, 'step', round, step);
    store.rounds.setOutcome(job, round, 'checkpoint');
    this.#settleUpdates(durable, outbox);
    if (rollBack) {
      const lossBefore = this.#checkpoint.checkpoint.metrics.heldOutLoss;
      const { to, reason } = rollBack;
      outbox.event({ type: 'rolled-back', round, to: to.round, digest, heldOutLoss, lossBefore, reason });
    } else this.#reportCheckpoint(durable, outbox);
    this.#checkpoint = { digest, checkpoint, ordinal: this.#checkpoint.ordinal + 1, residual };
    this.audits.draw(checkpoint);
    this.retention.release(round, round, outbox);
  }

  /** Records, for each update that was selected for a checkpoint, whether it was merged, or else why it was not. */
  #settleUpdates({ checkpoint, leftOut, rollBack }: DurableCheckpoint, outbox: Outbox): void {
    const { job, deps } = this.#context;
    const { store } = deps;
    const { round } = checkpoint;
    const harmful = store.scores.ofMerge(job, round).filter(({ isHarmful }) => isHarmful);
    for (const update of store.updates.selected(job, round)) {
      const merged = checkpoint.contributors.some((contributor) => isSameUpdate(contributor, update));
      if (merged) store.updates.setFate(job, update.round, update.peer, 'merged');
      else if (harmful.some((score) => isSameUpdate(score, update)))
        this.#discardUpdate(update, 'harmful', outbox);
      else if (rollBack) this.#discardUpdate(update, 'rolled-back', outbox);
      else {
        const isLeftOut = leftOut.some((source) => isSameUpdate(source, update));
        this.#discardUpdate(update, isLeftOut ? 'left-out' : 'outlier', outbox);
      }
    }
  }

  #reportCheckpoint({ digest, checkpoint }: DurableCheckpoint, outbox: Outbox): void {
    const { manifest } = this.#context;
    const { metrics, contributors } = checkpoint;
    outbox.event({
      type: 'checkpoint',
      round: checkpoint.round,
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
  }

  /** Writes an effect to the store. @param state state after the transition */
  effect(effect: Effect, state: JobState, now: number, outbox: Outbox): void {
    if (effect.type === 'open') this.#open(effect, state, now, outbox);
    if (effect.type === 'close') this.#close(effect, state, now, outbox);
    if (effect.type === 'discard') this.#discardRound(effect, outbox);
    if (effect.type === 'announce') this.#announce(effect, state, now, outbox);
  }

  #open(effect: Extract<Effect, { type: 'open' }>, state: JobState, now: number, outbox: Outbox): void {
    const { job, deps } = this.#context;
    const { round, preset, assignments, deadlineMs } = effect;
    const order = isRollingBack(state) ? state.rollBack : null;
    const reason = order === null ? this.#restored : restoredText(order.to, orderReason(order));
    const facts: RoundFacts = { round, parent: this.#checkpoint.digest, preset, openedAt: now, assignments };
    deps.store.rounds.open(job, { ...facts, deadlineMs: Math.ceil(deadlineMs) });
    this.#rounds.set(round, facts);
    for (const old of this.#rounds.keys()) if (old <= round - REMEMBERED_ROUNDS) this.#rounds.delete(old);
    this.#expireUpdates(round - STALE_ROUNDS - 1, outbox);
    outbox.event({ type: 'round-opened', round, peers: assignments.length, preset, deadlineMs });
    this.heads.record(
      { phase: 'training', round, preset, assignments, deadlineMs, reason, issuedAt: now },
      this.#checkpoint,
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
    // A checkpoint can name at most ROUND_PEERS contributors. If there are more updates, some late updates wait for the
    // next merge.
    deps.store.updates.select(job, round, round - STALE_ROUNDS, ROUND_PEERS);
    const updates = deps.store.updates.selected(job, round).length;
    outbox.event({ type: 'round-closed', round, updates, assigned: state.current!.assigned.length, cause });
  }

  #discardRound({ round, reason, tried }: Extract<Effect, { type: 'discard' }>, outbox: Outbox): void {
    const { job, deps } = this.#context;
    const closed = deps.store.updates.selected(job, round);
    const own = deps.store.updates.ofRounds(job, round, round).filter(({ late }) => !late);
    // If the round never closed, no updates were selected. Discard only the updates of this round, so that late
    // updates of earlier rounds wait for the next merge.
    const discarded = closed.length > 0 ? closed : own;
    this.#ledger.judgeUnmerged(round, discarded, outbox);
    for (const update of discarded) this.#discardUpdate(update, 'null-round', outbox, reason);
    deps.store.rounds.setOutcome(job, round, tried ? 'refused' : 'short');
    outbox.event({ type: 'null-round', round, reason });
    this.retention.release(round, this.#checkpoint.checkpoint.round, outbox);
  }

  #announce(
    { phase, reason }: Extract<Effect, { type: 'announce' }>,
    state: JobState,
    now: number,
    outbox: Outbox,
  ): void {
    const { stored } = this.#context;
    const { round, metrics } = this.#checkpoint.checkpoint;
    if (phase === 'paused') outbox.event({ type: 'paused', reason, nextRound: state.round });
    if (phase === 'finished') {
      const { heldOutLoss } = metrics;
      const isStopped = state.committed < state.settings.count;
      outbox.event({
        type: 'finished',
        round,
        heldOutLoss,
        baseLoss: stored.baseLoss,
        ...(isStopped && { stopReason: reason }),
      });
      this.#expireUpdates(state.round, outbox);
      this.audits.close();
      outbox.afterwards(() => void this.retention.clean());
    }
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
      this.#checkpoint,
    );
  }

  /** Discards updates of rounds up to `last` that arrived too late for any merge. */
  #expireUpdates(last: number, outbox: Outbox): void {
    const { job, deps } = this.#context;
    const expired = deps.store.updates.unclaimed(job, last);
    for (const update of expired) this.#discardUpdate(update, 'null-round', outbox);
  }

  /**
   * Records that an update is not merged. The author gets a receipt, and adds the update back to its error
   * feedback.
   * @param cause text that tells the author why; an empty text if the code alone does
   */
  #discardUpdate(
    update: StoredUpdate,
    reason: keyof typeof UNMERGED,
    outbox: Outbox,
    cause: string = UNMERGED[reason].detail,
  ): void {
    const { job, stored, deps } = this.#context;
    const { round, peer, digest } = update;
    const { fate, code } = UNMERGED[reason];
    const texts = [cause, this.#ledger.standings.noteOn(update)];
    const all = texts.filter((text) => text !== '').join('; ');
    const detail = safeText(all, { maxCharacters: DETAIL_CHARACTERS });
    deps.store.updates.setFate(job, round, peer, fate);
    const issuedAt = deps.clock.now();
    outbox.receipt({ term: stored.term, round, peer, digest, code, detail, issuedAt });
    outbox.event({ type: 'update-undone', round, peer, code, detail });
  }

  #lastPreset(): Preset {
    const { preset } = this.#context.manifest.rounds;
    return preset === 'auto' ? this.heads.newest.head.preset : preset;
  }
}
