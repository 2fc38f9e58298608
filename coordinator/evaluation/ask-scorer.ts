import { raceSignal } from 'race-signal';
import { isSwarmError } from '../../common/errors.ts';
import { sleep, withDeadline } from '../../common/time/deadline.ts';
import { withProgress } from '../../common/time/progress-deadline.ts';
import type { BaseBits } from '../../lora/models/base/base-bits.ts';
import type { BlobRef } from '../../protocol/job/manifest.ts';
import { ANSWERS_BYTES, BLOB_IDLE_TIMEOUT_MS } from '../../protocol/limits.ts';
import {
  callTimeoutMs,
  type RpcMethod,
  type RpcRequest,
  type RpcResponse,
} from '../../protocol/requests/rpc.ts';
import type { BlobScope } from '../../storage/blob-collector.ts';
import type { RunContext } from '../context.ts';
import { coordinatorError } from '../errors.ts';

/** Time between two questions about the state of an evaluation, in milliseconds. */
export const POLL_MS = 5_000;
/** Time without an answer after which a scorer counts as gone, in milliseconds: three requests that time out. */
const GONE_MS = 45_000;
/**
 * Maximum time without progress, in milliseconds. When a scorer opens a large base for the first time, it converts the
 * weights. The conversion takes several minutes and reports no progress.
 */
const IDLE_MS = 15 * 60_000;
/**
 * Maximum time of an evaluation, in milliseconds, so that a slow scorer does not delay later checkpoints for a whole
 * day.
 */
const TOTAL_MS = 6 * 3_600_000;

export interface AskedEvaluation {
  readonly adapter: BlobRef;
  readonly questions: BlobRef;
  readonly baseBits: BaseBits;
}

/**
 * Lets a scorer answer the questions of an evaluation, and fetches the answers.
 * @param scope protects the blob of the answers from garbage collection
 * @returns the encoded answers
 * @throws SwarmError RPC_REFUSED, EVALUATION_FAILED, DEADLINE_EXCEEDED, or another error of the network; the signal's
 * reason
 */
export async function askScorer(
  peer: string,
  { adapter, questions, baseBits }: AskedEvaluation,
  { context, scope, signal }: { context: RunContext; scope: BlobScope; signal: AbortSignal },
): Promise<Uint8Array> {
  const { job, deps } = context;
  const { clock, network, blobs } = deps;
  const request = <M extends RpcMethod>(method: M, body: RpcRequest<M>): Promise<RpcResponse<M>> => {
    const deadline = { clock, ms: callTimeoutMs(method), signal, what: `the request "${method}"` };
    return withDeadline(deadline, (inner) => network.request(peer, method, body, { signal: inner }));
  };
  await request('evaluate', { job, adapter, questions, baseBits });
  const wanted = { job, adapter: adapter.digest, questions: questions.digest };
  const limits = {
    clock,
    idleMs: IDLE_MS,
    totalMs: TOTAL_MS,
    signal,
    what: `the evaluation by node ${peer}`,
  };
  const answers = await withProgress(limits, async (inner, progressed) => {
    let heardAt = clock.monotonic();
    let done = -1;
    for (;;) {
      await sleep(clock, POLL_MS, inner);
      let state: RpcResponse<'evaluation'>;
      try {
        state = await request('evaluation', wanted);
      } catch (error) {
        inner.throwIfAborted();
        // A refusal is final: the node has restarted, or dropped the evaluation.
        if (isSwarmError(error, 'RPC_REFUSED') || clock.monotonic() - heardAt >= GONE_MS) throw error;
        continue;
      }
      heardAt = clock.monotonic();
      if (state.state === 'done') return state.answers;
      if (state.state === 'failed') {
        throw coordinatorError('EVALUATION_FAILED', `node ${peer} could not evaluate: ${state.reason}`, {
          peer,
        });
      }
      if (state.done > done) progressed();
      done = Math.max(done, state.done);
    }
  });
  await scope.hold(answers.digest);
  const fetching = { ...limits, idleMs: 2 * BLOB_IDLE_TIMEOUT_MS, what: `the answers of node ${peer}` };
  await withProgress(fetching, (inner, onArrival) =>
    // The blob is fetched even if the store has it. Otherwise, the node could find out whether the store has a blob.
    raceSignal(network.fetchBlob(answers, { holders: [peer], again: true, signal: inner, onArrival }), inner),
  );
  return blobs.get(answers.digest, { maxBytes: ANSWERS_BYTES });
}
