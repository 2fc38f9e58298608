import type { CheckpointView } from '../../protocol/api/coordinator.ts';
import type { Checkpoint } from '../../protocol/messages.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import type { CoordinatorDeps } from '../context.ts';
import type { JobRun } from '../job-run.ts';
import type { StoredCheckpoint } from '../store/store.ts';
import { checkpointTasks, type EvaluatedCheckpoints } from './job-views.ts';

/**
 * Maximum number of checkpoints in an answer. The coordinator computes answers on its only thread, and needs about 0.5
 * ms to verify and encode a checkpoint with eight contributors.
 */
export const CHECKPOINTS_PER_ANSWER = 50;

/** Number of verified checkpoints kept in memory, at about 5 kB each. Five open browser pages need this many. */
const KEPT_CHECKPOINTS = 5 * CHECKPOINTS_PER_ANSWER;

/** Builds the answers of the control API about checkpoints. */
export class CheckpointViews {
  readonly #deps: Pick<CoordinatorDeps, 'store' | 'folders'>;
  /** Checkpoints whose signature has been verified, by digest. The last entry is the most recently used. */
  readonly #verified = new Map<string, Checkpoint>();

  constructor(deps: Pick<CoordinatorDeps, 'store' | 'folders'>) {
    this.#deps = deps;
  }

  /** Returns at most `limit` checkpoints of a job from rounds before `before`, newest first. */
  page(run: JobRun, { before, limit }: { before: number; limit: number }): CheckpointView[] {
    const { store } = this.#deps;
    const { job } = run.context;
    const stored = store.rounds.checkpointsBefore(job, before, limit);
    const tasks = checkpointTasks(job, store, { from: stored.at(-1)?.round ?? 0, to: stored[0]?.round ?? 0 });
    return stored.map((checkpoint) => this.#view(run, checkpoint, tasks));
  }

  one(run: JobRun, stored: StoredCheckpoint): CheckpointView {
    const { round } = stored;
    const tasks = checkpointTasks(run.context.job, this.#deps.store, { from: round, to: round });
    return this.#view(run, stored, tasks);
  }

  #view({ context }: JobRun, stored: StoredCheckpoint, tasks: EvaluatedCheckpoints): CheckpointView {
    const { round, digest, weights, restores } = stored;
    const checkpoint = this.#verify(stored);
    return {
      round,
      digest,
      parent: checkpoint.parent,
      restores,
      path: this.#deps.folders.path(context.stored.name, round),
      isBest: round === tasks.best,
      tasks: tasks.byRound.get(round) ?? null,
      kept: weights === 'held',
      checkpoint,
    };
  }

  #verify({ digest, envelope }: StoredCheckpoint): Checkpoint {
    const message = this.#verified.get(digest) ?? verifyMessage('checkpoint', envelope).message;
    this.#verified.delete(digest);
    this.#verified.set(digest, message);
    if (this.#verified.size > KEPT_CHECKPOINTS) this.#verified.delete(this.#verified.keys().next().value!);
    return message;
  }
}
