import { isSwarmError } from '../common/errors.ts';
import { ROUND_PEERS } from '../protocol/limits.ts';
import type { Head } from '../protocol/messages.ts';
import type { RpcRequest, RpcResponse } from '../protocol/requests/rpc.ts';
import { verifyMessage } from '../protocol/signing.ts';
import type { CurvePoint } from '../registry/export/checkpoint-card.ts';

/**
 * Maximum number of points of a curve. A coordinator answers a peer's requests for records up to 20 times in 10 s, so the
 * peer can fetch two curves in that time.
 */
const POINTS = 10;

/**
 * Fetches the held-out losses of a job's checkpoints up to the checkpoint of the head, oldest first. A long history is
 * thinned out, but keeps its first and last points. Returns no points if the coordinator does not answer, because the
 * caller can use the adapter without them.
 * @param send sends the request `record` to the coordinator
 */
export async function fetchLossCurve(
  { job, coordinator, head }: { job: string; coordinator: string; head: Head },
  send: (request: RpcRequest<'record'>) => Promise<RpcResponse<'record'>>,
): Promise<CurvePoint[]> {
  const { ordinal: last, round, heldOutLoss } = head.checkpoint;
  const count = Math.min(POINTS, last + 1);
  const ordinals = Array.from({ length: count - 1 }, (_, i) => Math.round((i * last) / (count - 1)));
  try {
    const points: CurvePoint[] = [];
    for (const ordinal of ordinals) {
      // Skip the proofs of all contributors, which are ROUND_PEERS at most, so that the answer is small.
      const { checkpoint } = await send({ job, ordinal, first: ROUND_PEERS });
      if (checkpoint === null) return [];
      const { message, author } = verifyMessage('checkpoint', checkpoint);
      if (author !== coordinator || message.job !== job) return [];
      points.push({ round: message.round, heldOutLoss: message.metrics.heldOutLoss });
    }
    return [...points, { round, heldOutLoss }];
  } catch (error) {
    // The coordinator may be an older release, may have refused the request because of a quota, or may have sent a bad
    // signature. The curve is optional, so these errors are ignored. Other errors, such as an AbortError, are thrown.
    if (isSwarmError(error)) return [];
    throw error;
  }
}
