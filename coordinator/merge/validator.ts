import type { Manifest } from '../../protocol/manifest.ts';
import type { RowLoss } from './gate.ts';

/** The job as whoever evaluates an adapter needs it. */
export interface ValidationJob {
  readonly job: string;
  readonly manifest: Manifest;
}

export interface EvaluateOptions {
  readonly signal: AbortSignal;
  /** A device has failed, and the evaluation begins again with less: what happened and what is done, for people. */
  readonly onLighter: (because: string) => void;
}

/** Losses of adapters on a job's held-out rows: always the same rows in the same order, so that they can be paired. */
export interface Validator {
  /**
   * @param adapter in layout order
   * @throws SwarmError when the evaluation broke down, which says nothing about the adapter
   */
  evaluate(
    job: ValidationJob,
    adapter: readonly Float32Array[],
    options: EvaluateOptions,
  ): Promise<readonly RowLoss[]>;
  /** The job will not be evaluated for a while: what was kept ready for it can go. */
  release(job: string): Promise<void>;
}

/** Longest evaluation of one adapter; slower ones would outlast the rounds they judge. */
export const EVALUATION_TIMEOUT_MS = 15 * 60_000;
