import { raceSignal } from 'race-signal';
import { z } from 'zod';
import { isSwarmError, type SwarmError } from '../../common/errors.ts';
import type { Clock } from '../../common/time/clock.ts';
import { withProgress } from '../../common/time/progress-deadline.ts';
import { decodeCbor, encodeCbor } from '../../protocol/cbor.ts';
import { protocolError } from '../../protocol/errors.ts';
import { RPC_TIMEOUT_MS } from '../../protocol/limits.ts';
import {
  RPC_PROTOCOL,
  type RpcMethod,
  type RpcRequest,
  type RpcResponse,
  rpcMethods,
  transferMs,
} from '../../protocol/requests/rpc.ts';
import { netError } from '../errors.ts';
import { LENGTH_PREFIX_BYTES } from '../frame-buffer.ts';
import { FrameStream, PROGRESS_BYTES } from '../frames.ts';
import type { Streams } from '../libp2p/streams.ts';
import type { NetworkMeter } from '../meter.ts';
import { ANSWER_OVERHEAD_BYTES, isOversized, oversized, refusalSchema } from './wire.ts';

/** Maximum number of outbound calls in progress per connection. */
const OUTBOUND_CALLS_PER_CONNECTION = 64;

const ASK_FOR_INVITE = 'ask the operator of the job for a new invite';
/**
 * Advice to the caller of a refused request, by the code of the refusal. The other peer sends a code and a message, but
 * no advice, because a stranger must not tell a user what to do.
 */
const ADVICE = new Map([
  ['CLOCK_OFF', 'set the clocks of both machines over the network (NTP)'],
  ['BANNED', 'ask the operator of the job for a pardon'],
  [
    'DUPLICATE_IDENTITY',
    'start this machine with its own home (--home), or delete the file "identity" in its copied home',
  ],
  ['INTERNAL', 'ask the operator of the other peer to read its log'],
  ['INVITE_EXPIRED', ASK_FOR_INVITE],
  ['INVITE_REVOKED', ASK_FOR_INVITE],
  [
    'INVITE_USED',
    `${ASK_FOR_INVITE}; if this machine has joined before, start it with the same home folder, which has its key`,
  ],
  [
    'JOB_NOT_READABLE',
    'check the digest of the job; if your own node is in the job, name the home of your node with --home',
  ],
  ['JOB_UNKNOWN', 'check the invite with the person who gave it to you'],
  ['NODE_TRAFFIC_USED', 'ask another node of the job'],
  ['RPC_METHOD_UNKNOWN', 'wait a moment, because the other program is probably still starting'],
  [
    'NOT_ADMITTED',
    'check that you have copied the whole invite unchanged, or ask the operator of the job for an invite, or to list your peer id',
  ],
]);

interface RpcClientDeps {
  streams: Streams;
  clock: Clock;
  meter: NetworkMeter;
}

/** Makes calls over `/lora-swarm/rpc/2`, one stream per call. */
export class RpcClient {
  readonly #deps: RpcClientDeps;

  constructor(deps: RpcClientDeps) {
    this.#deps = deps;
  }

  /**
   * Calls a method of a peer.
   * @throws SwarmError RPC_TIMEOUT, RPC_UNREACHABLE, RPC_REFUSED, MESSAGE_*, or the signal's reason
   */
  async request<M extends RpcMethod>(
    peer: string,
    method: M,
    body: RpcRequest<M>,
    options: { signal: AbortSignal },
  ): Promise<RpcResponse<M>> {
    const { clock, meter } = this.#deps;
    const start = clock.monotonic();
    const traffic = { sent: 0, received: 0 };
    let code = 'ok';
    try {
      return await this.#request(peer, method, body, options, traffic);
    } catch (error) {
      code = outcomeOf(error);
      throw error;
    } finally {
      const seconds = (clock.monotonic() - start) / 1000;
      meter.rpcCall({ method, direction: 'outbound', code, seconds, ...traffic });
    }
  }

  async #request<M extends RpcMethod>(
    peer: string,
    method: M,
    body: RpcRequest<M>,
    options: { signal: AbortSignal },
    traffic: { sent: number; received: number },
  ): Promise<RpcResponse<M>> {
    const { maxRequestBytes, maxResponseBytes } = rpcMethods[method];
    const bytes = encodeCbor(body);
    traffic.sent = bytes.byteLength;
    if (bytes.byteLength > maxRequestBytes)
      throw oversized(method, 'request', bytes.byteLength, maxRequestBytes);
    // This host cannot see how much of the request has arrived at the peer. The limit on the time without progress
    // therefore includes the time that the whole request takes over the slowest supported connection.
    const idleMs = RPC_TIMEOUT_MS + transferMs(Math.max(0, bytes.byteLength - PROGRESS_BYTES));
    const totalMs = idleMs + transferMs(maxResponseBytes + ANSWER_OVERHEAD_BYTES);
    const limits = { clock: this.#deps.clock, idleMs, totalMs, signal: options.signal, what: method };
    let answer: Uint8Array;
    try {
      answer = await withProgress(limits, async (signal, progressed) => {
        signal.throwIfAborted();
        return raceSignal(this.#exchange(peer, method, bytes, { signal, progressed }), signal);
      });
    } catch (cause) {
      options.signal.throwIfAborted();
      throw callError(cause, peer, method);
    }
    traffic.received = answer.byteLength;
    return readAnswer(answer, peer, method);
  }

  async #exchange(
    peer: string,
    method: RpcMethod,
    body: Uint8Array,
    { signal, progressed }: { signal: AbortSignal; progressed: () => void },
  ): Promise<Uint8Array> {
    const stream = await this.#deps.streams.open(peer, RPC_PROTOCOL, {
      signal,
      maxOutboundStreams: OUTBOUND_CALLS_PER_CONNECTION,
    });
    const answerBytes = rpcMethods[method].maxResponseBytes + ANSWER_OVERHEAD_BYTES;
    try {
      const frames = new FrameStream({ unreadBytes: LENGTH_PREFIX_BYTES + answerBytes }, { stream });
      await frames.write([Buffer.from(method), body], signal);
      const [answer] = await Promise.all([
        frames.read(answerBytes, signal, progressed),
        frames.closeWrite(signal),
      ]);
      return answer;
    } catch (error) {
      stream.abort(error instanceof Error ? error : new Error(String(error)));
      throw error;
    }
  }
}

function readAnswer<M extends RpcMethod>(bytes: Uint8Array, peer: string, method: M): RpcResponse<M> {
  const { response, maxResponseBytes } = rpcMethods[method];
  const schema = z.union([z.strictObject({ ok: response }), refusalSchema]);
  const answer = decodeCbor(bytes, schema, maxResponseBytes + ANSWER_OVERHEAD_BYTES);
  if ('ok' in answer) return answer.ok as RpcResponse<M>;
  const { code, message } = answer.error;
  throw netError(
    'RPC_REFUSED',
    code === 'RPC_METHOD_UNKNOWN'
      ? `peer ${peer} is not ready to answer "${method}" requests`
      : `peer ${peer} refused the request: ${message}`,
    { peer, method, code, message },
    { next: ADVICE.get(code) },
  );
}

function callError(cause: unknown, peer: string, method: string): SwarmError {
  const values = { peer, method };
  if (isSwarmError(cause, 'DEADLINE_EXCEEDED')) {
    const seconds = Number(cause.values.ms) / 1000;
    const message = `${peer} did not answer the call "${method}" within ${seconds.toFixed(0)} s`;
    return netError('RPC_TIMEOUT', message, values, { cause });
  }
  if (isOversized(cause)) {
    return protocolError(
      'MESSAGE_TOO_LARGE',
      `the answer of ${peer} to the call "${method}" is too large`,
      values,
      {
        cause,
      },
    );
  }
  if (cause instanceof Error && cause.name === 'UnsupportedProtocolError') {
    const message = `${peer} does not speak ${RPC_PROTOCOL}; it probably runs another version of lora-swarm`;
    return netError('PROTOCOL_VERSION', message, { ...values, protocol: RPC_PROTOCOL }, { cause });
  }
  const reason = cause instanceof Error ? cause.message : String(cause);
  const message = `could not reach ${peer} for the call "${method}": ${reason}`;
  return netError('RPC_UNREACHABLE', message, { ...values, reason }, { cause });
}

/**
 * Returns the code with which the meter counts a failed call. If the peer refused the call, this is the code of the
 * refusal.
 */
function outcomeOf(error: unknown): string {
  if (!isSwarmError(error)) return 'aborted';
  return error.code === 'RPC_REFUSED' ? String(error.values.code) : error.code;
}
