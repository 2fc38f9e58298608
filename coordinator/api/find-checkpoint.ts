import { bestCheckpoint } from '../best-checkpoint.ts';
import { coordinatorError } from '../errors.ts';
import type { JobRun } from '../job-run.ts';
import type { Store, StoredCheckpoint } from '../store/store.ts';

/**
 * Returns a checkpoint of a job.
 * @param round number of a round, `latest` or `best`
 * @throws SwarmError CHECKPOINT_UNKNOWN
 */
export function findCheckpoint({ context }: JobRun, round: string, store: Store): StoredCheckpoint {
  const { job, stored } = context;
  const { rounds } = store;
  const best = round === 'best' ? bestCheckpoint(job, store) : null;
  const found =
    round === 'latest'
      ? rounds.newestCheckpoints(job, 1)[0]
      : (best ?? rounds.checkpoint(job, Number(round)));
  if (found) return found;
  const message = `job ${stored.name} has no checkpoint of round ${round}`;
  throw coordinatorError(
    'CHECKPOINT_UNKNOWN',
    message,
    { round, known: rounds.checkpointRounds(job) },
    { next: `see all its checkpoints with "lora-swarm checkpoint list ${stored.name}"` },
  );
}
