import type { Verified } from '../protocol/signing.ts';
import { verifyError } from './errors.ts';

/** The job that a caller expects. */
export interface WantedJob {
  /** Digest that the job must have. @default any job */
  readonly job?: string | null;
  /** Peer id that the coordinator must have. @default any peer id */
  readonly coordinator?: string | null;
}

/** Checks that a manifest belongs to the wanted job. @throws SwarmError JOB_DIFFERS, COORDINATOR_DIFFERS */
export function checkWanted(
  { author, digest }: Verified<'manifest'>,
  { job = null, coordinator = null }: WantedJob,
): void {
  if (job !== null && digest !== job) {
    const text = `the record is of job ${digest}, not of job ${job}`;
    throw verifyError('JOB_DIFFERS', text, { job: digest, expected: job });
  }
  if (coordinator !== null && author !== coordinator) {
    const text = `the manifest is signed by the coordinator ${author}, not by ${coordinator}`;
    throw verifyError('COORDINATOR_DIFFERS', text, { coordinator: author, expected: coordinator });
  }
}
