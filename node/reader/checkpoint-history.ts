import { isSwarmError } from '../../common/errors.ts';
import { ROUND_PEERS } from '../../protocol/limits.ts';
import type { Head } from '../../protocol/messages.ts';
import type { RpcRequest, RpcResponse } from '../../protocol/requests/rpc.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import type { VersionManifest } from '../../protocol/version-manifest.ts';
import type { CurvePoint } from '../../registry/export/checkpoint-card.ts';

const NOTHING: CheckpointHistory = { curve: [], rollBacks: [] };

/**
 * Maximum number of points of a curve. A coordinator answers a peer's requests for records up to 20 times in 10 s, so the
 * peer can fetch two curves in that time.
 */
const POINTS = 10;

/** What is known about the checkpoints of a job. */
export interface CheckpointHistory {
  /** Held-out losses of the checkpoints, oldest first. */
  readonly curve: readonly CurvePoint[];
  /** The newest roll-backs, oldest first. */
  readonly rollBacks: NonNullable<VersionManifest['rollBacks']>;
}

/**
 * Fetches the held-out losses of a job's checkpoints up to the checkpoint of the head, and the roll-backs among all of
 * these checkpoints. A long history of losses is thinned out, but keeps its first and last points. Returns nothing if the
 * coordinator does not answer, because the caller can use the adapter without it.
 * @param send sends the request `record` to the coordinator
 */
export async function fetchCheckpointHistory(
  { job, coordinator, head }: { job: string; coordinator: string; head: Head },
  send: (request: RpcRequest<'record'>) => Promise<RpcResponse<'record'>>,
): Promise<CheckpointHistory> {
  const { ordinal: last, round, heldOutLoss } = head.checkpoint;
  const count = Math.min(POINTS, last + 1);
  const ordinals = Array.from({ length: count - 1 }, (_, i) => Math.round((i * last) / (count - 1)));
  try {
    const points: CurvePoint[] = [];
    let rollBacks: CheckpointHistory['rollBacks'] = [];
    for (const ordinal of ordinals) {
      // Skip the proofs of all contributors, which are ROUND_PEERS at most, so that the answer is small.
      const body = { job, ordinal, first: ROUND_PEERS };
      const answer = await send(ordinal === 0 ? { ...body, rollBacks: true } : body);
      const { checkpoint } = answer;
      if (checkpoint === null) return NOTHING;
      const { message, author } = verifyMessage('checkpoint', checkpoint);
      if (author !== coordinator || message.job !== job) return NOTHING;
      points.push({ round: message.round, heldOutLoss: message.metrics.heldOutLoss });
      rollBacks = answer.rollBacks ?? rollBacks;
    }
    return {
      curve: [...points, { round, heldOutLoss }],
      rollBacks: rollBacks.filter((one) => one.round <= round),
    };
  } catch (error) {
    // The coordinator may have refused the request because of a quota, or may have sent a bad signature. The curve is optional, so these errors are ignored. Other errors, such as an AbortError, are thrown.
    if (isSwarmError(error)) return NOTHING;
    throw error;
  }
}
