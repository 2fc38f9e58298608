import type { Stream } from '@libp2p/interface';
import { z } from 'zod';
import type { Clock } from '../common/clock.ts';
import { withDeadline } from '../common/deadline.ts';
import { isSwarmError, type SwarmError } from '../common/errors.ts';
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

/** A method's name as a frame of its own, so that the size of what follows is known before it is read. */
const METHOD_NAME_BYTES = 32;
/** What wraps an answer's body, and the largest refusal. */
const ANSWER_OVERHEAD_BYTES = 2048;
/** Calls of one connection that may be in progress; a node makes a handful at a time. */
const INBOUND_CALLS_PER_CONNECTION = 16;
/** Calls in progress over all peers: each may hold a request and an answer in memory. */
const INBOUND_CALLS = 256;
/** Own calls to one peer at a time. */
const OUTBOUND_CALLS_PER_CONNECTION = 64;
/** A call: the method's name, and the largest request that any method has. */
const UNREAD_CALL_BYTES =
  2 * LENGTH_PREFIX_BYTES +
  METHOD_NAME_BYTES +
  Math.max(...Object.values(rpcMethods).map(({ maxRequestBytes }) => maxRequestBytes));

const refusalSchema = z.strictObject({
  error: z.strictObject({ code: z.string().max(64), message: z.string().max(DETAIL_CHARACTERS) }),
});

type Handler = (peer: string, body: unknown) => Promise<unknown>;

interface RpcDeps {
  streams: Streams;
  clock: Clock;
  log: Logger;
}

/** Requests and answers over `/lora-swarm/rpc/1`: one call, one stream. */
export class Rpc {
  readonly #deps: RpcDeps;
  readonly #limiter: RateLimiter;
  readonly #handlers = new Map<string, Handler>();
  #inProgress = 0;

  constructor(deps: RpcDeps) {
    this.#deps = deps;
    this.#limiter = new RateLimiter(deps);
  }

  async start(): Promise<void> {
    await this.#deps.streams.handle(
      RPC_PROTOCOL,
      { maxInboundStreams: INBOUND_CALLS_PER_CONNECTION },
      (stream, peer) => this.#serve(stream, peer),
    );
  }

  handle<M extends RpcMethod>(
    method: M,
    handler: (peer: string, body: RpcRequest<M>) => Promise<RpcResponse<M>>,
  ): () => void {
    this.#handlers.set(method, handler as Handler);
    return () => {
      if (this.#handlers.get(method) === handler) this.#handlers.delete(method);
    };
  }

  /** @throws SwarmError RPC_TIMEOUT, RPC_UNREACHABLE, RPC_REFUSED, MESSAGE_*, or the signal's reason */
  async request<M extends RpcMethod>(
    peer: string,
    method: M,
    body: RpcRequest<M>,
    options: { signal: AbortSignal },
  ): Promise<RpcResponse<M>> {
    const { maxRequestBytes } = rpcMethods[method];
    const bytes = encodeCbor(body);
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
    const onAbort = (): void => stream.abort(new Error('the call was given up'));
    signal.addEventListener('abort', onAbort, { once: true });
    const answerBytes = rpcMethods[method].maxResponseBytes + ANSWER_OVERHEAD_BYTES;
    try {
      const frames = new FrameStream({ unreadBytes: LENGTH_PREFIX_BYTES + answerBytes }, { stream });
      await frames.write([Buffer.from(method), body], signal);
      const [answer] = await Promise.all([frames.read(answerBytes, signal), frames.closeWrite(signal)]);
      return answer;
    } catch (error) {
      stream.abort(error instanceof Error ? error : new Error(String(error)));
      throw error;
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  /** Never throws: whatever goes wrong is told to the caller if it still listens, and logged. */
  async #serve(stream: Stream, peer: string): Promise<void> {
    const { clock, log } = this.#deps;
    const frames = new FrameStream({ unreadBytes: UNREAD_CALL_BYTES }, { stream });
    this.#inProgress++;
    try {
      const deadline = { clock, ms: RPC_TIMEOUT_MS, what: 'serving a request' };
      const answer = await withDeadline(deadline, (signal) => this.#answer(frames, peer, signal)).catch(
        (error) => {
          log.debug({ peer, error }, 'rpc.refused');
          return encodeCbor({ error: refusalOf(error) });
        },
      );
      await withDeadline(deadline, async (signal) => {
        await frames.write([answer], signal);
        await closeStream(stream, { signal });
      });
    } catch (error) {
      log.debug({ peer, error }, 'rpc.caller_gone');
      stream.abort(error instanceof Error ? error : new Error(String(error)));
    } finally {
      this.#inProgress--;
    }
  }

  async #answer(frames: FrameStream, peer: string, signal: AbortSignal): Promise<Uint8Array> {
    const name = Buffer.from(await frames.read(METHOD_NAME_BYTES, signal)).toString('latin1');
    const handler = this.#handlers.get(name);
    const spec = Object.hasOwn(rpcMethods, name) ? rpcMethods[name as RpcMethod] : undefined;
    if (handler === undefined || spec === undefined) {
      throw netError('RPC_METHOD_UNKNOWN', `this peer does not answer "${name.replace(/[^\w]/g, '?')}"`);
    }
    if (!this.#limiter.take(`${peer} ${name}`, spec.quota)) {
      const { calls, perMs } = spec.quota;
      throw netError(
        'RPC_RATE_LIMITED',
        `more than ${calls} calls of ${name} in ${perMs / 1000} s; call less often`,
      );
    }
    if (this.#inProgress > INBOUND_CALLS) {
      throw netError('RPC_BUSY', `${INBOUND_CALLS} calls are in progress here; try again in a moment`);
    }
    const body = decodeCbor(
      await frames.read(spec.maxRequestBytes, signal),
      spec.request,
      spec.maxRequestBytes,
    );
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
  throw netError('RPC_REFUSED', `${peer} refused ${method}: ${message}`, {
    peer,
    method,
    code,
    message,
  });
}

/** Only our own errors are worth telling; others may hold paths or worse. */
function refusalOf(error: unknown): { code: string; message: string } {
  if (!isSwarmError(error))
    return { code: 'INTERNAL', message: 'the call failed on the other side; see its log' };
  const code = isOversized(error) ? 'MESSAGE_TOO_LARGE' : error.code;
  return { code: code.slice(0, 64), message: error.message.slice(0, DETAIL_CHARACTERS) };
}

function callError(cause: unknown, peer: string, method: string): SwarmError {
  const values = { peer, method };
  if (isSwarmError(cause, 'DEADLINE_EXCEEDED')) {
    const message = `${peer} did not answer ${method} within ${RPC_TIMEOUT_MS / 1000} s`;
    return netError('RPC_TIMEOUT', message, values, { cause });
  }
  if (isOversized(cause)) {
    return protocolError('MESSAGE_TOO_LARGE', `the answer of ${peer} to ${method} is too large`, values, {
      cause,
    });
  }
  const reason = cause instanceof Error ? cause.message : String(cause);
  const message = `could not reach ${peer} for ${method}: ${reason}`;
  return netError('RPC_UNREACHABLE', message, { ...values, reason }, { cause });
}

/** One frame that is too large, or more of them than belong there. */
function isOversized(error: unknown): boolean {
  return isSwarmError(error, 'FRAME_TOO_LARGE') || isSwarmError(error, 'FRAME_FLOOD');
}

function oversized(method: string, what: string, bytes: number, maxBytes: number): SwarmError {
  return protocolError(
    'MESSAGE_TOO_LARGE',
    `the ${what} of ${method} has ${bytes} bytes, more than ${maxBytes}`,
    {
      method,
      bytes,
      maxBytes,
    },
  );
}
