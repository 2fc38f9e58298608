/** The method of a process that verifies a bundle. */
import type { Row } from '../../lora/data/row.ts';
import type { TrainerOptions } from '../../lora/train/process/messages.ts';
import type { VerifyReport } from '../verify-job.ts';

export interface VerifyRequest {
  /** Path of the bundle. */
  readonly file: string;
  /** Digest that the job must have. */
  readonly job: string;
  /** Round of the first checkpoint to check. */
  readonly from: number;
  /** The measurement of the scores of that checkpoint. @default scores are not measured */
  readonly scores?: ScoreTask | null;
}

/** All that a process needs to measure the scores of one merge. */
export interface ScoreTask {
  /** Settings of the trainer process that computes gradients and losses. */
  readonly trainer: TrainerOptions;
  /** The rows that are read, by their positions in the shuffled data of a round. */
  readonly rows: readonly {
    readonly round: number;
    readonly positions: readonly number[];
    readonly rows: readonly Row[];
  }[];
  /** The updates whose gain and exact effect are measured. */
  readonly chosen: readonly { readonly peer: string; readonly round: number }[];
  /** Maximum time of the measurement, in milliseconds. */
  readonly limitMs: number;
}

export type VerifyMethods = { verify: { request: VerifyRequest; reply: VerifyReport } };
