import { isSwarmError } from '../../common/errors.ts';
import { PROOFS_PER_ANSWER } from '../../protocol/limits.ts';
import type { Messages } from '../../protocol/messages.ts';
import type { RpcRequest, RpcResponse } from '../../protocol/requests/rpc.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import type { NodeStore } from './node-store.ts';

/**
 * Returns what a node keeps about a checkpoint: its signed form, and the receipt of the node's own update. If the witness of
 * the node has checked the checkpoint, the answer has the proofs of all contributors. If the node does not keep the
 * checkpoint with the wanted number, the answer has the next later one.
 */
export function recordPage(
  { job, ordinal, first }: Pick<RpcRequest<'record'>, 'job' | 'ordinal' | 'first'>,
  { kept, keptMerges }: Pick<NodeStore, 'kept' | 'keptMerges'>,
): RpcResponse<'record'> {
  const found = kept.checkpointFrom(job, ordinal);
  if (found === null) return { checkpoint: null, residual: null, proofs: [] };
  const { ordinal: number, digest, envelope: checkpoint } = found;
  const answer = { checkpoint, ordinal: number, residual: null };
  const checked = keptMerges.find(job, digest);
  if (checked !== null) return { ...answer, proofs: checked.proofs.slice(first, first + PROOFS_PER_ANSWER) };
  const contributors = readable('checkpoint', checkpoint)?.contributors ?? [];
  const proofs = contributors.slice(first, first + PROOFS_PER_ANSWER).map(({ peer, update }) => {
    const receipt = kept.receipt(job, update);
    if (receipt === null) return null;
    // Another contributor can have sent the same payload. The receipt is not for that contributor.
    const isOwn = (readable('receipt', receipt)?.peer ?? peer) === peer;
    return isOwn ? { evidence: null, receipt } : null;
  });
  return { ...answer, proofs };
}

/** Returns the content of a message; null if the stored message was damaged. The verification reports the damage. */
function readable<K extends 'checkpoint' | 'receipt'>(kind: K, envelope: Uint8Array): Messages[K] | null {
  try {
    return verifyMessage(kind, envelope).message;
  } catch (error) {
    if (!isSwarmError(error)) throw error;
    return null;
  }
}
