import { isSwarmError } from '../../common/errors.ts';
import type { Manifest } from '../../protocol/job/manifest.ts';
import type { Checkpoint } from '../../protocol/messages.ts';
import type { Findings } from '../findings.ts';

/** A job whose held-out losses are measured. */
export interface MeasuredJob {
  /** Digest of the job. */
  readonly job: string;
  readonly manifest: Manifest;
}

/** Measures the held-out losses of a job, on a machine that has its base and its data. */
export interface LossMeter {
  /**
   * Returns the loss of an adapter on the held-out rows of the gate, in nats per token; null if the rows have no
   * supervised token.
   */
  measure(job: MeasuredJob, adapter: Uint8Array, options: { signal: AbortSignal }): Promise<number | null>;
}

/**
 * Maximum difference between a published and a measured loss, as a fraction of the published loss. With a 4-bit base, the
 * loss differed by 1.0 % from the loss with a 32-bit base, and the coordinator may use either.
 */
export const LOSS_TOLERANCE = 0.02;

/** Codes of a meter's error if the adapter cannot be decoded. */
const MALFORMED_ADAPTER: readonly string[] = [
  'ADAPTER_NOT_FINITE',
  'ADAPTER_TENSORS',
  'TENSORS_DTYPE',
  'TENSORS_ENTRY',
  'TENSORS_HEADER',
  'TENSORS_TRUNCATED',
];

/** Compares the published held-out loss of a checkpoint with the loss that a meter measures. */
export async function checkLoss(
  { meter, job, signal }: { meter: LossMeter; job: MeasuredJob; signal: AbortSignal },
  { metrics: { heldOutLoss: published } }: Checkpoint,
  adapter: Uint8Array | null,
  findings: Findings,
): Promise<void> {
  if (published === null) return findings.skip('loss', 'the checkpoint has no held-out loss');
  if (adapter === null) return findings.skip('loss', 'the source does not have the adapter');
  findings.done('loss');
  let measured: number | null;
  try {
    measured = await meter.measure(job, adapter, { signal });
  } catch (error) {
    // A malformed adapter must not hide the problems that other checks have found.
    if (!isSwarmError(error) || !MALFORMED_ADAPTER.includes(error.code)) throw error;
    return findings.problem('VERIFY_SOURCE', `the adapter cannot be measured: ${error.message}`);
  }
  findings.loss = { published, measured };
  if (measured !== null && Math.abs(measured - published) <= LOSS_TOLERANCE * Math.abs(published)) return;
  const found =
    measured === null
      ? 'the held-out rows have no supervised token, so they have no loss'
      : `this machine measures ${measured}`;
  const text = `the published held-out loss is ${published}, but ${found}`;
  findings.problem('VERIFY_LOSS', text, { published, measured, tolerance: LOSS_TOLERANCE });
}
