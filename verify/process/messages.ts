/** The method of a process that verifies a bundle. */
import type { VerifyReport } from '../verify-job.ts';

export interface VerifyRequest {
  /** Path of the bundle. */
  readonly file: string;
  /** Digest that the job must have. */
  readonly job: string;
  /** Round of the first checkpoint to check. */
  readonly from: number;
}

export type VerifyMethods = { verify: { request: VerifyRequest; reply: VerifyReport } };
