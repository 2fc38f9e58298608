import { STALE_ROUNDS } from '../../protocol/limits.ts';
import type { RunContext } from '../context.ts';
import type { HeldCheckpoint } from '../store/store.ts';
import type { Outbox } from './outbox.ts';

/**
 * Newest checkpoints that keep their weights: one more than the rounds whose merge can be recomputed, for each of those
 * starts from its parent, and one to go back to.
 */
export const KEPT_CHECKPOINTS = 10;
/**
 * Newest rounds whose update payloads and deltas are kept: what it takes to recompute a merge bit for bit, and to hold
 * a disputed update against its receipt. An author has long had its receipt by then.
 */
export const KEPT_ROUNDS = 8;
/** Checkpoints spread evenly over a job that keep their weights, so that its whole course can be evaluated later. */
export const MILESTONES = 16;

export interface RetentionSettings {
  /** 0 keeps all. @default KEPT_CHECKPOINTS */
  readonly checkpoints: number;
  /** At least those that updates can still name. @default KEPT_ROUNDS */
  readonly rounds: number;
}

export const defaultRetention: RetentionSettings = { checkpoints: KEPT_CHECKPOINTS, rounds: KEPT_ROUNDS };

/**
 * Rounds of the checkpoints that lose their weights: all but the newest `newest`, the milestones, and the best on
 * held-out data (the earliest of equals). Everything that is signed stays, so that the chain can be verified for ever.
 * @param held those that have their weights, oldest first
 * @param count checkpoints that the job is to have: sets the distance between milestones
 */
export function surplus(
  held: readonly HeldCheckpoint[],
  { newest, count }: { newest: number; count: number },
): number[] {
  const stride = Math.max(1, Math.ceil(count / MILESTONES));
  let best: HeldCheckpoint | null = null;
  for (const checkpoint of held) {
    if ((checkpoint.heldOutLoss ?? Infinity) < (best?.heldOutLoss ?? Infinity)) best = checkpoint;
  }
  return held
    .slice(0, Math.max(0, held.length - newest))
    .filter((checkpoint) => checkpoint.ordinal % stride !== 0 && checkpoint !== best)
    .map(({ round }) => round);
}

/** Lets go of what a job no longer needs: first in the record, then, when that is durable, on the disk. */
export class Retention {
  readonly #context: RunContext;
  #tidying: Promise<void> = Promise.resolve();

  constructor(_options: object, deps: { context: RunContext }) {
    this.#context = deps.context;
  }

  /**
   * After a round's end; to be called in its transaction.
   * @param newest round of the newest checkpoint
   */
  retire(round: number, newest: number, outbox: Outbox): void {
    const { job, manifest, retention, deps } = this.#context;
    const { rounds, blobs } = deps.store;
    if (retention.checkpoints > 0) {
      const { count } = manifest.rounds;
      for (const old of surplus(rounds.held(job), { newest: retention.checkpoints, count })) {
        rounds.letGo(job, old);
        blobs.release(job, 'adapter', old, old);
      }
    }
    const last = round - Math.max(retention.rounds, STALE_ROUNDS + 1);
    blobs.release(job, 'update', 0, last);
    // The next merge starts from the newest checkpoint's residual, however long ago that was.
    blobs.release(job, 'step', 0, Math.min(last, newest - 1));
    outbox.afterwards(() => void this.tidy());
  }

  /** Does on the disk what the record says, also what a killed process has not come to. Never fails: it is tried again. */
  tidy(): Promise<void> {
    this.#tidying = this.#tidying.then(async () => {
      const { job, stored, collector, deps } = this.#context;
      try {
        for (const round of deps.store.rounds.leaving(job)) {
          await deps.folders.empty(stored.name, round);
          deps.store.rounds.gone(job, round);
        }
      } catch (error) {
        deps.log.warn({ error }, 'checkpoint-not-emptied');
      }
      await collector.sweep();
    });
    return this.#tidying;
  }
}
