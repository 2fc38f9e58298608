import { STALE_ROUNDS } from '../../protocol/limits.ts';
import { bestCheckpoint } from '../best-checkpoint.ts';
import type { RetentionSettings, RunContext } from '../context.ts';
import type { HeldCheckpoint } from '../store/store.ts';
import type { Outbox } from './outbox.ts';

/**
 * Number of newest checkpoints that keep their weights. Eight of them are the parents of the last KEPT_ROUNDS rounds,
 * which a witness needs to compute the merges of these rounds again. The other two are the newest checkpoint, and one
 * to roll back to.
 */
export const KEPT_CHECKPOINTS = 10;
/**
 * Number of newest rounds whose payloads and deltas are kept. Witnesses need them to compute a merge again, and
 * operators need them to compare an update with its receipt after a complaint. The author of an older update has had
 * enough time to complain.
 */
export const KEPT_ROUNDS = 8;
/**
 * Maximum number of milestones. Milestones are checkpoints, spread evenly over a job, that keep their weights, so that
 * the course of the whole job can be evaluated later.
 */
export const MILESTONES = 16;

export const defaultRetention: RetentionSettings = { checkpoints: KEPT_CHECKPOINTS, rounds: KEPT_ROUNDS };

/**
 * Chooses the checkpoints whose weights are deleted. These checkpoints keep their weights:
 * - the `newest` newest checkpoints
 * - the milestones
 * - the best checkpoint
 * - the lowest checkpoint, with which the gate compares merges
 *
 * The signed records of all checkpoints stay, so that the chain of checkpoints can always be verified.
 * @param held checkpoints whose weights are still kept, oldest first
 * @param count number of checkpoints planned for the job, which sets the distance between milestones
 * @param kept rounds of the best checkpoint and of the lowest checkpoint
 * @returns the rounds of the chosen checkpoints
 */
export function checkpointsToEmpty(
  held: readonly HeldCheckpoint[],
  { newest, count, kept }: { newest: number; count: number; kept: readonly (number | undefined)[] },
): number[] {
  const stride = Math.max(1, Math.ceil(count / MILESTONES));
  return held
    .slice(0, Math.max(0, held.length - newest))
    .filter((one) => one.ordinal % stride !== 0 && !kept.includes(one.round))
    .map(({ round }) => round);
}

/** Removes blobs and weights that a job no longer needs: first from the database, and then from disk. */
export class Retention {
  readonly #context: RunContext;
  #cleaning: Promise<void> = Promise.resolve();

  constructor(deps: { context: RunContext }) {
    this.#context = deps.context;
  }

  /**
   * Releases old payloads, and the weights of old checkpoints, at the end of a round. Must be called in the transaction
   * that ends the round.
   * @param newest round of the newest checkpoint
   */
  release(round: number, newest: number, outbox: Outbox): void {
    const { job, settings, retention, deps } = this.#context;
    const { rounds, blobs } = deps.store;
    if (retention.checkpoints > 0) {
      const { count } = settings.newest;
      const held = rounds.held(job);
      const kept = [bestCheckpoint(job, deps.store)?.round, rounds.lowestLoss(job)?.round];
      for (const old of checkpointsToEmpty(held, { newest: retention.checkpoints, count, kept })) {
        rounds.releaseWeights(job, old);
        blobs.release(job, 'adapter', old, old);
      }
    }
    const last = round - Math.max(retention.rounds, STALE_ROUNDS + 1);
    blobs.release(job, 'update', 0, last);
    // The next merge needs the residual of the newest checkpoint, even if this checkpoint is old.
    blobs.release(job, 'step', 0, Math.min(last, newest - 1));
    outbox.afterwards(() => void this.clean());
  }

  /**
   * Deletes from disk all blobs and weights that the database lists as released. Never rejects. After a failure, the
   * next call tries again.
   */
  clean(): Promise<void> {
    this.#cleaning = this.#cleaning.then(async () => {
      const { job, stored, collector, deps } = this.#context;
      try {
        for (const round of deps.store.rounds.leaving(job)) {
          await deps.folders.empty(stored.name, round);
          deps.store.rounds.markWeightsGone(job, round);
        }
      } catch (error) {
        deps.log.warn({ error }, 'checkpoint-not-emptied');
      }
      await collector.sweep();
    });
    return this.#cleaning;
  }
}
