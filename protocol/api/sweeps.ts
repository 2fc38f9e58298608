import type { ErrorJson } from '../../common/errors.ts';

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

/** Maximum length of the text that describes a variant. */
export const VARIANT_CHARACTERS = 2000;
