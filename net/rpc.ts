import type { Stream } from '@libp2p/interface';
import { z } from 'zod';
import type { Clock } from '../common/clock.ts';
import { withDeadline } from '../common/deadline.ts';
import { isSwarmError, type SwarmError } from '../common/errors.ts';
import type { Claimant, FairPermits } from '../common/fair-permits.ts';
import type { Logger } from '../common/logger.ts';
import { RateLimiter } from '../common/rate-limiter.ts';
import { decodeCbor, encodeCbor } from '../protocol/cbor.ts';
import { protocolError } from '../protocol/errors.ts';
import { DETAIL_CHARACTERS, RPC_TIMEOUT_MS } from '../protocol/limits.ts';
import {
  RPC_PROTOCOL,
  type RpcMethod,
  type RpcRequest,
  type RpcResponse,
  rpcMethods,
} from '../protocol/rpc.ts';
import { netError } from './errors.ts';
import { LENGTH_PREFIX_BYTES } from './frame-buffer.ts';
import { FrameStream } from './frames.ts';
import { closeStream, type Streams } from './libp2p/streams.ts';
import type { NetworkObserver, RpcCall } from './observer.ts';

/**
 * Longest method name. The name is sent as a separate frame, so that the size limit of the body is known before the
 * body is read.
 */
const METHOD_NAME_BYTES = 32;
/** Space for the envelope of an answer, or for the largest refusal. */
const ANSWER_OVERHEAD_BYTES = 2048;
/** Largest number of inbound calls in progress per connection. A node makes a handful at a time. */
const INBOUND_CALLS_PER_CONNECTION = 16;
/** Largest number of outbound calls in progress per connection. */
const OUTBOUND_CALLS_PER_CONNECTION = 64;
/** Largest number of bytes that a caller may send: the method name and the largest request of any method. */
const UNREAD_CALL_BYTES =
  2 * LENGTH_PREFIX_BYTES +
  METHOD_NAME_BYTES +
  Math.max(...Object.values(rpcMethods).map(({ maxRequestBytes }) => maxRequestBytes));

/**
 * Advice to the caller of a refused request, by the code of the refusal. The other peer sends a code and a message, but
 * no advice, because a stranger must not tell a user what to do.
 */
const ADVICE = new Map([
  ['CLOCK_OFF', 'set the clocks of both machines over the network (NTP)'],
  ['INTERNAL', 'ask the operator of the other peer to read its log'],
  ['JOB_UNKNOWN', 'check the invite with the person who gave it to you'],
  ['NOT_ADMITTED', 'ask the operator of the job for an invite, or to list your peer id'],
]);

const refusalSchema = z.strictObject({
  error: z.strictObject({ code: z.string().max(64), message: z.string().max(DETAIL_CHARACTERS) }),
});

type Handler = (peer: string, body: unknown) => Promise<unknown>;

interface RpcDeps {
  streams: Streams;
  clock: Clock;
  log: Logger;
  observer: NetworkObserver;
  /** Permits for the calls in progress, shared fairly between addresses. */
  permits: FairPermits;
}

/** Remote procedure calls over `/lora-swarm/rpc/1`, one stream per call. */
export class Rpc {
  readonly #deps: RpcDeps;
  readonly #limiter: RateLimiter;
  readonly #handlers = new Map<string, Handler>();

  constructor(deps: RpcDeps) {
    this.#deps = deps;
    this.#limiter = new RateLimiter(deps);
  }

  /** Starts to answer calls. */
  async start(): Promise<void> {
    await this.#deps.streams.handle(
      RPC_PROTOCOL,
      { maxInboundStreams: INBOUND_CALLS_PER_CONNECTION },
      (stream, from) => this.#serve(stream, from),
    );
  }

  /** Sets the handler of a method. Returns a function that removes it. */
  handle<M extends RpcMethod>(
    method: M,
    handler: (peer: string, body: RpcRequest<M>) => Promise<RpcResponse<M>>,
  ): () => void {
    this.#handlers.set(method, handler as Handler);
    return () => {
      if (this.#handlers.get(method) === handler) this.#handlers.delete(method);
    };
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
    const { clock, observer } = this.#deps;
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
      observer.rpcCall({ method, direction: 'outbound', code, seconds, ...traffic });
    }
  }

  async #request<M extends RpcMethod>(
    peer: string,
    method: M,
    body: RpcRequest<M>,
    options: { signal: AbortSignal },
    traffic: { sent: number; received: number },
  ): Promise<RpcResponse<M>> {
    const { maxRequestBytes } = rpcMethods[method];
    const bytes = encodeCbor(body);
    traffic.sent = bytes.byteLength;
    if (bytes.byteLength > maxRequestBytes)
      throw oversized(method, 'request', bytes.byteLength, maxRequestBytes);
    const deadline = { clock: this.#deps.clock, ms: RPC_TIMEOUT_MS, signal: options.signal, what: method };
    let answer: Uint8Array;
    try {
      answer = await withDeadline(deadline, (signal) => this.#exchange(peer, method, bytes, signal));
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
    signal: AbortSignal,
  ): Promise<Uint8Array> {
    const stream = await this.#deps.streams.open(peer, RPC_PROTOCOL, {
      signal,
      maxOutboundStreams: OUTBOUND_CALLS_PER_CONNECTION,
    });
    const answerBytes = rpcMethods[method].maxResponseBytes + ANSWER_OVERHEAD_BYTES;
    try {
      const frames = new FrameStream({ unreadBytes: LENGTH_PREFIX_BYTES + answerBytes }, { stream });
      await frames.write([Buffer.from(method), body], signal);
      const [answer] = await Promise.all([frames.read(answerBytes, signal), frames.closeWrite(signal)]);
      return answer;
    } catch (error) {
      stream.abort(error instanceof Error ? error : new Error(String(error)));
      throw error;
    }
  }

  /** Answers a call. Never throws. An error is logged, and sent to the caller if the caller is still connected. */
  async #serve(stream: Stream, from: Claimant): Promise<void> {
    const { clock, log, observer, permits } = this.#deps;
    const { peer } = from;
    const start = clock.monotonic();
    const call: Omit<RpcCall, 'seconds'> = {
      method: '',
      direction: 'inbound',
      code: 'ok',
      sent: 0,
      received: 0,
    };
    const frames = new FrameStream({ unreadBytes: UNREAD_CALL_BYTES }, { stream });
    const withdrawn = new AbortController();
    const release = permits.take(from, () => withdrawn.abort(busy()));
    if (release === null) withdrawn.abort(busy());
    observer.rpcQueue(permits.size);
    try {
      const deadline = { clock, ms: RPC_TIMEOUT_MS, what: 'serving a request' };
      const answer = await withDeadline({ ...deadline, signal: withdrawn.signal }, (signal) =>
        this.#answer(frames, peer, call, signal),
      ).catch((error) => {
        log.debug({ peer, error }, 'rpc-refused');
        // Drop the unread bytes, because the call may have lost its permit and the peer may keep the stream open.
        frames.discard(error);
        const refusal = refusalOf(error);
        call.code = refusal.code;
        return encodeCbor({ error: refusal });
      });
      call.sent = answer.byteLength;
      await withDeadline(deadline, async (signal) => {
        await frames.write([answer], signal);
        await closeStream(stream, { signal });
      });
    } catch (error) {
      call.code = isSwarmError(error) ? error.code : 'aborted';
      log.debug({ peer, error }, 'rpc-answer-not-sent');
      stream.abort(error instanceof Error ? error : new Error(String(error)));
    } finally {
      release?.();
      observer.rpcQueue(permits.size);
      observer.rpcCall({ ...call, seconds: (clock.monotonic() - start) / 1000 });
    }
  }

  /**
   * Reads a call, runs its handler and returns the encoded answer.
   * @param call a record, to which this method adds the method name and the size of the request
   */
  async #answer(
    frames: FrameStream,
    peer: string,
    call: { method: string; received: number },
    signal: AbortSignal,
  ): Promise<Uint8Array> {
    const name = Buffer.from(await frames.read(METHOD_NAME_BYTES, signal)).toString('latin1');
    call.method = name;
    const handler = this.#handlers.get(name);
    const spec = Object.hasOwn(rpcMethods, name) ? rpcMethods[name as RpcMethod] : undefined;
    if (handler === undefined || spec === undefined) {
      throw netError('RPC_METHOD_UNKNOWN', `this peer has no method "${name.replace(/[^\w]/g, '?')}"`);
    }
    if (!this.#limiter.take(`${peer} ${name}`, spec.quota)) {
      const { calls, perMs } = spec.quota;
      throw netError('RPC_RATE_LIMITED', `more than ${calls} calls of ${name} in ${perMs / 1000} s`);
    }
    const bytes = await frames.read(spec.maxRequestBytes, signal);
    call.received = bytes.byteLength;
    const body = decodeCbor(bytes, spec.request, spec.maxRequestBytes);
    const answer = encodeCbor({ ok: await handler(peer, body) });
    if (answer.byteLength > spec.maxResponseBytes + ANSWER_OVERHEAD_BYTES) {
      throw oversized(name, 'answer', answer.byteLength, spec.maxResponseBytes);
    }
    return answer;
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
    `${peer} refused the call "${method}": ${message}`,
    { peer, method, code, message },
    { next: ADVICE.get(code) },
  );
}

function busy(): SwarmError {
  return netError('RPC_BUSY', 'it is serving as many calls of your address as it can at the moment');
}

/** Returns the error that the caller receives. Only SwarmErrors are passed on, because others may contain secrets. */
function refusalOf(error: unknown): { code: string; message: string } {
  if (!isSwarmError(error))
    return { code: 'INTERNAL', message: 'the call failed on the other side; see its log' };
  const code = isOversized(error) ? 'MESSAGE_TOO_LARGE' : error.code;
  return { code: code.slice(0, 64), message: error.message.slice(0, DETAIL_CHARACTERS) };
}

function callError(cause: unknown, peer: string, method: string): SwarmError {
  const values = { peer, method };
  if (isSwarmError(cause, 'DEADLINE_EXCEEDED')) {
    const message = `${peer} did not answer the call "${method}" within ${RPC_TIMEOUT_MS / 1000} s`;
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
  const reason = cause instanceof Error ? cause.message : String(cause);
  const message = `could not reach ${peer} for the call "${method}": ${reason}`;
  return netError('RPC_UNREACHABLE', message, { ...values, reason }, { cause });
}

/** Returns the code of a failed call for the observer. For a refusal it is the code that the peer gave. */
function outcomeOf(error: unknown): string {
  if (!isSwarmError(error)) return 'aborted';
  return error.code === 'RPC_REFUSED' ? String(error.values.code) : error.code;
}

/** Returns whether the other side sent a frame above its limit, or more bytes than it may send before an answer. */
function isOversized(error: unknown): boolean {
  return isSwarmError(error, 'FRAME_TOO_LARGE') || isSwarmError(error, 'FRAME_FLOOD');
}

function oversized(method: string, what: string, bytes: number, maxBytes: number): SwarmError {
  return protocolError(
    'MESSAGE_TOO_LARGE',
    `the ${what} of the call "${method}" has ${bytes} bytes, more than the limit of ${maxBytes}`,
    { method, bytes, maxBytes },
  );
}
