import { ChildCalls } from '../../common/workers/child-process.ts';
import { entryOf } from '../../common/workers/entry.ts';
import { verifyError } from '../errors.ts';
import type { VerifyReport } from '../verify-job.ts';
import type { VerifyMethods, VerifyRequest } from './messages.ts';

/**
 * Verifies a bundle in a process with a low priority, which ends afterwards.
 * @throws SwarmError VERIFIER_DIED, and the errors of `verifyBundle`; the signal's reason
 */
export async function verifyInProcess(request: VerifyRequest, signal: AbortSignal): Promise<VerifyReport> {
  signal.throwIfAborted();
  const child = new ChildCalls<VerifyMethods>(entryOf(import.meta, './process'), {
    ended: ({ code, signal: killed, stderr, cause }) => {
      const how = killed === null ? `exited with code ${code}` : `was killed by ${killed}`;
      const values = { code, signal: killed, stderr };
      return verifyError('VERIFIER_DIED', `the process that verifies a bundle ${how}`, values, { cause });
    },
  });
  return child.callOnce('verify', request, { signal });
}
