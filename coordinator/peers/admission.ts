import { timingSafeEqual } from 'node:crypto';
import { coordinatorError } from '../errors.ts';

/** Who may take part in a job: everybody, holders of its invite, or the peers listed. */
export type Admission =
  | { readonly kind: 'open' }
  | { readonly kind: 'invite' }
  | { readonly kind: 'peers'; readonly peers: readonly string[] };

/** @throws SwarmError NOT_ADMITTED saying what the node's owner can do */
export function checkAdmission(
  admission: Admission,
  token: string | null,
  asked: { peer: string; invite: string | null },
): void {
  if (admission.kind === 'open') return;
  if (admission.kind === 'invite' && token !== null && asked.invite !== null && equal(token, asked.invite))
    return;
  if (admission.kind === 'peers' && admission.peers.includes(asked.peer)) return;
  throw coordinatorError(
    'NOT_ADMITTED',
    admission.kind === 'invite'
      ? `this job takes nodes with its invite only; ask its operator for one (\`swarm job show\` prints it)`
      : `this job takes listed nodes only; ask its operator to list ${asked.peer}`,
    { admission: admission.kind, peer: asked.peer },
  );
}

/** Takes the same time whatever the first difference. */
function equal(a: string, b: string): boolean {
  const left = Buffer.from(a);
  const right = Buffer.from(b);
  return left.length === right.length && timingSafeEqual(left, right);
}
