import type { ErrorJson } from '../../common/errors.ts';
import type { Coordinator } from '../coordinator.ts';
import { sweepJobState } from '../jobs/sweep-job-state.ts';
import { unmeasuredError } from '../jobs/sweeps.ts';
import type { Store } from '../store/store.ts';

/** Maximum length of the text that describes a variant. */
export const VARIANT_CHARACTERS = 2000;

/**
 * A sweep: jobs that are compared with each other. Again and again, the half of the jobs with the higher
 * held-out losses is stopped, until one job is left.
 */
export interface SweepView {
  name: string;
  /** Number of checkpoints after which the next half of the jobs is stopped. */
  nextRounds: number;
  /** Name of the job that won; null while more than one job is left, or if the sweep has failed. */
  winner: string | null;
  /** Error with which the sweep ended without a winner; null if it has not failed. */
  error: ErrorJson | null;
  jobs: SweepJobView[];
}

/** A job of a sweep. */
export interface SweepJobView {
  job: string;
  name: string;
  /** The settings in which the job differs from the other jobs. */
  variant: string;
  phase: string;
  /** Number of checkpoints that the job makes, if it is not stopped earlier. */
  rounds: number;
  /** Number of checkpoints of the job. */
  checkpoints: number;
  /** Held-out loss at the newest halving, or of the newest checkpoint before the first halving; null if unknown. */
  heldOutLoss: number | null;
  /** Number of checkpoints that the job had when `heldOutLoss` was measured. */
  lossAfter: number;
  /** Number of the halving that stopped the job; null if no halving has stopped it. */
  outAt: number | null;
  /**
   * Reason why the job is paused, if the sweep waits for the job; otherwise null. The sweep continues when the operator
   * resumes or stops the job. A job that is stopped leaves the sweep.
   */
  pauseReason: string | null;
}

/** Returns all sweeps, oldest first. */
export function sweepViews({ coordinator, store }: { coordinator: Coordinator; store: Store }): SweepView[] {
  return store.sweeps.all().map(({ name, rounds, halvings, failed }) => {
    const nextRounds = rounds * 2 ** halvings;
    const entries = store.sweeps.entries(name);
    const isOpen = !failed && entries.filter(({ outAt }) => outAt === null).length > 1;
    const jobs = entries.map(({ job, variant, outAt, loss }): SweepJobView => {
      const run = coordinator.find(job);
      const { context, driver, record } = run;
      const { heldOutLoss } = record.checkpoint.checkpoint.metrics;
      const inSweep = isOpen && outAt === null ? sweepJobState(run, nextRounds, store) : null;
      return {
        job,
        name: context.stored.name,
        variant,
        phase: driver.state.phase,
        rounds: context.settings.newest.count,
        checkpoints: driver.state.committed,
        heldOutLoss: halvings === 0 ? heldOutLoss : loss,
        lossAfter:
          halvings === 0
            ? driver.state.committed
            : Math.min(driver.state.committed, rounds * 2 ** ((outAt ?? halvings) - 1)),
        outAt,
        pauseReason: inSweep?.state === 'paused' ? inSweep.reason : null,
      };
    });
    const winner = isOpen || failed ? null : jobs.find(({ outAt }) => outAt === null)!.name;
    return { name, nextRounds, winner, error: failed ? unmeasuredError(name).toJSON() : null, jobs };
  });
}
