import { timingSafeEqual } from 'node:crypto';
import { coordinatorError } from '../errors.ts';
import type { Admission } from '../store/store.ts';

/** Error code with which a request to join is refused. */
export type JoinRefusal = (typeof JOIN_REFUSALS)[number];
export const JOIN_REFUSALS = [
  'BANNED',
  'BUSY',
  'CLOCK_OFF',
  'DUPLICATE_IDENTITY',
  'IDENTITY_IN_USE',
  'INVITE_EXPIRED',
  'INVITE_REVOKED',
  'INVITE_USED',
  'JOB_FULL',
  'NOT_ADMITTED',
] as const;

/**
 * Checks that a job admits a peer that shows no personal invite.
 * @param token token of the shared invite; null if there is none
 * @throws SwarmError NOT_ADMITTED
 */
export function checkAdmission(
  admission: Admission,
  token: string | null,
  asked: { peer: string; invite: string | null },
): void {
  if (admission.kind === 'open') return;
  if (admission.kind === 'invite' && token !== null && asked.invite !== null && equal(token, asked.invite))
    return;
  if (admission.kind === 'peers' && admission.peers.includes(asked.peer)) return;
  const values = { admission: admission.kind, peer: asked.peer };
  if (admission.kind === 'invite' && asked.invite !== null) {
    throw coordinatorError('NOT_ADMITTED', 'the coordinator does not know this invite', values);
  }
  throw coordinatorError(
    'NOT_ADMITTED',
    admission.kind === 'invite'
      ? 'this job needs an invite. Its operator can make one with `lora-swarm invite create`'
      : `this job admits only listed nodes, and ${asked.peer} is not one of them`,
    values,
  );
}

/** Compares two tokens in constant time. */
function equal(a: string, b: string): boolean {
  const left = Buffer.from(a);
  const right = Buffer.from(b);
  return left.length === right.length && timingSafeEqual(left, right);
}
