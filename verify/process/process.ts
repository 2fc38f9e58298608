/**
 * Entry of a process that verifies a bundle. Repeating a merge blocks its thread for seconds, so a node does it in a
 * process of its own.
 */
import { setPriority } from 'node:os';
import { serveCalls } from '../../common/workers/calls.ts';
import { parentChannel } from '../../common/workers/entry.ts';
import { verifyBundle } from '../bundle/verify-bundle.ts';
import { verifyError } from '../errors.ts';
import type { VerifyMethods } from './messages.ts';

/** Nice value of the process. The priority is low, because no round waits for a witness. */
const NICE = 10;

try {
  setPriority(NICE);
} catch {
  // Some systems refuse to change the priority. The verification then competes with the trainer, but its result is the
  // same.
}

serveCalls<VerifyMethods>(
  { verify: ({ file, job, from }, { signal }) => verifyBundle(file, { job, from, signal }) },
  {
    channel: parentChannel(),
    failed: (message, options) => verifyError('VERIFIER_FAILED', message, {}, options),
  },
);
