/**
 * Entry of a process that verifies a bundle. Computing a merge again blocks the thread for seconds, so a node does it in
 * a separate process.
 */
import { setPriority } from 'node:os';
import { serveCalls } from '../../common/workers/calls.ts';
import { parentChannel } from '../../common/workers/entry.ts';
import { verifyBundle } from '../bundle/verify-bundle.ts';
import { verifyError } from '../errors.ts';
import type { VerifyReport } from '../verify-job.ts';
import type { VerifyMethods, VerifyRequest } from './messages.ts';
import { TrainerMeter } from './trainer-meter.ts';

/** Nice value of the process. The priority is low, because no round waits for a witness. */
const NICE = 10;

try {
  setPriority(NICE);
} catch {
  // Some systems refuse to change the priority. The verification then competes with the trainer, but its result is the
  // same.
}

async function verify(
  { file, job, from, scores: task = null }: VerifyRequest,
  { signal }: { signal: AbortSignal },
): Promise<VerifyReport> {
  if (task === null) return verifyBundle(file, { job, from, signal });
  const scores = new TrainerMeter(task);
  try {
    return await verifyBundle(file, { job, from, signal, scores });
  } finally {
    await scores.close();
  }
}

serveCalls<VerifyMethods>(
  { verify },
  {
    channel: parentChannel(),
    failed: (message, options) => verifyError('VERIFIER_FAILED', message, {}, options),
  },
);
