import type { JobRun } from '../job-run.ts';
import { isOver } from '../round/job-phase.ts';
import { lineageOf } from '../store/lineage.ts';
import type { Store } from '../store/store.ts';

/**
 * State of a job in a sweep.
 * - `measured`: the job has the checkpoints that the next halving needs. `loss` is the held-out loss of
 *   the last of these checkpoints
 * - `unmeasured`: the job has these checkpoints, but the last of them has no held-out loss
 * - `dropped`: the job was stopped before all of its rounds were done
 * - `paused`: the job is paused, so the sweep waits for its operator
 * - `training`: the job needs more checkpoints
 */
export type SweepJobState =
  | { readonly state: 'measured'; readonly loss: number }
  | { readonly state: 'paused'; readonly reason: string }
  | { readonly state: 'unmeasured' | 'dropped' | 'training' };

/**
 * Returns the state of a job in its sweep.
 * @param target number of checkpoints that the next halving needs. Checkpoints that a roll-back has undone do not count,
 *   and roll-backs do not count either. A job that has done all of its rounds, but has fewer checkpoints, is judged by
 *   its last checkpoint.
 */
export function sweepJobState({ context, driver }: JobRun, target: number, store: Store): SweepJobState {
  const { state } = driver;
  const isComplete = isOver(state) && state.committed >= state.settings.count;
  if (isOver(state) && !isComplete) return { state: 'dropped' };
  const lineage = lineageOf(store.rounds.checkpoints(context.job));
  const judged = lineage[target - 1] ?? (isComplete ? lineage.at(-1) : undefined);
  if (judged !== undefined || isComplete) {
    const loss = judged?.heldOutLoss ?? null;
    return loss === null ? { state: 'unmeasured' } : { state: 'measured', loss };
  }
  return state.phase === 'paused' ? { state: 'paused', reason: state.reason } : { state: 'training' };
}
