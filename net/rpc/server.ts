import type { Stream } from '@libp2p/interface';
import { raceSignal } from 'race-signal';
import { isSwarmError, type SwarmError } from '../../common/errors.ts';
import type { FairPermits } from '../../common/limits/fair-permits.ts';
import { RateLimiter } from '../../common/limits/rate-limiter.ts';
import type { Logger } from '../../common/logger.ts';
import type { Clock } from '../../common/time/clock.ts';
import { withProgress } from '../../common/time/progress-deadline.ts';
import { decodeCbor, encodeCbor } from '../../protocol/cbor.ts';
import { DETAIL_CHARACTERS, RPC_TIMEOUT_MS } from '../../protocol/limits.ts';
import {
  OLD_RPC_PROTOCOLS,
  RPC_PROTOCOL,
  type RpcMethod,
  rpcMethods,
  transferMs,
} from '../../protocol/requests/rpc.ts';
import { netError } from '../errors.ts';
import { LENGTH_PREFIX_BYTES } from '../frame-buffer.ts';
import { FrameStream } from '../frames.ts';
import { closeStream, resetIfHalfOpen, type StreamOpener, type Streams } from '../libp2p/streams.ts';
import type { NetworkMeter, RpcCall } from '../meter.ts';
import type { RpcHandler } from '../network.ts';
import { ANSWER_OVERHEAD_BYTES, isOversized, METHOD_NAME_BYTES, oversized } from './wire.ts';

/** Maximum number of inbound calls in progress per connection. A node makes a handful at a time. */
const INBOUND_CALLS_PER_CONNECTION = 16;
/**
 * Maximum number of calls in progress per connection that use an old version of the protocol. Two are enough,
 * because all such calls are refused.
 */
const OLD_CALLS_PER_CONNECTION = 2;
/** Maximum number of bytes that a caller may send: the method name and the largest request of any method. */
const UNREAD_CALL_BYTES =
  2 * LENGTH_PREFIX_BYTES +
  METHOD_NAME_BYTES +
  Math.max(...Object.values(rpcMethods).map(({ maxRequestBytes }) => maxRequestBytes));

/**
 * Maximum number of values in a request, including keys. The request with the most values (`measure`) has about 350.
 * Without a limit, a stranger could send requests of tiny values, which take dozens of milliseconds to decode.
 */
const REQUEST_ITEMS = 1024;

type Handler = (
  peer: string,
  body: unknown,
  options: { signal: AbortSignal; ip: string | null },
) => Promise<unknown>;

interface Transfer {
  readonly signal: AbortSignal;
  /** Restarts the time limit for a transfer that makes no progress. */
  readonly progressed: () => void;
}

interface RpcServerDeps {
  streams: Streams;
  clock: Clock;
  log: Logger;
  meter: NetworkMeter;
  /** Permits for the calls in progress, shared fairly between addresses. */
  permits: FairPermits;
}

/** Answers calls over `/lora-swarm/rpc/2`, one stream per call. */
export class RpcServer {
  readonly #deps: RpcServerDeps;
  readonly #limiter: RateLimiter;
  readonly #handlers = new Map<string, Handler>();

  constructor(deps: RpcServerDeps) {
    this.#deps = deps;
    this.#limiter = new RateLimiter(deps);
  }

  /** Starts to answer calls. */
  async start(): Promise<void> {
    await this.#deps.streams.handle(
      RPC_PROTOCOL,
      { maxInboundStreams: INBOUND_CALLS_PER_CONNECTION },
      (stream, from) => this.#serve(stream, from, RPC_PROTOCOL),
    );
    for (const protocol of OLD_RPC_PROTOCOLS) {
      await this.#deps.streams.handle(
        protocol,
        { maxInboundStreams: OLD_CALLS_PER_CONNECTION },
        (stream, from) => this.#serve(stream, from, protocol),
      );
    }
  }

  /** Sets the handler of a method. Returns a function that removes it. */
  handle<M extends RpcMethod>(method: M, handler: RpcHandler<M>): () => void {
    this.#handlers.set(method, handler as Handler);
    return () => {
      if (this.#handlers.get(method) === handler) this.#handlers.delete(method);
    };
  }

  /** Answers a call. Never throws. An error is logged, and sent to the caller if the caller is still connected. */
  async #serve(stream: Stream, from: StreamOpener, protocol: string): Promise<void> {
    const { clock, log, meter, permits } = this.#deps;
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
    meter.rpcQueue(permits.size);
    try {
      const limits = { clock, idleMs: RPC_TIMEOUT_MS, what: 'serving a request' };
      const totalMs = RPC_TIMEOUT_MS + transferMs(UNREAD_CALL_BYTES);
      const answer = await withProgress(
        { ...limits, totalMs, signal: withdrawn.signal },
        async (signal, progressed) => {
          signal.throwIfAborted();
          if (protocol !== RPC_PROTOCOL) throw outdated(protocol);
          return raceSignal(this.#answer(frames, from, call, { signal, progressed }), signal);
        },
      ).catch((error) => {
        log.debug({ peer, error }, 'rpc-refused');
        // Drop the unread bytes, because the call may have lost its permit and the peer may keep the stream open.
        frames.discard(error);
        const refusal = refusalOf(error);
        call.code = refusal.code;
        return encodeCbor({ error: refusal });
      });
      call.sent = answer.byteLength;
      // Stop sending an answer when the call loses its permit. A refusal is sent in any case, because it is short, and
      // says why the call was refused.
      const { signal } = call.code === 'ok' ? withdrawn : new AbortController();
      await withProgress(
        { ...limits, totalMs: RPC_TIMEOUT_MS + transferMs(answer.byteLength), signal },
        (inner, progressed) => raceSignal(send(frames, stream, answer, { signal: inner, progressed }), inner),
      );
      resetIfHalfOpen(stream, { clock });
    } catch (error) {
      call.code = isSwarmError(error) ? error.code : 'aborted';
      log.debug({ peer, error }, 'rpc-answer-not-sent');
      stream.abort(error instanceof Error ? error : new Error(String(error)));
    } finally {
      release?.();
      meter.rpcQueue(permits.size);
      meter.rpcCall({ ...call, seconds: (clock.monotonic() - start) / 1000 });
    }
  }

  /**
   * Reads a call, runs its handler and returns the encoded answer.
   * @param call a record, to which this method adds the method name and the size of the request
   */
  async #answer(
    frames: FrameStream,
    { peer, ip }: StreamOpener,
    call: { method: string; received: number },
    { signal, progressed }: Transfer,
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
    const bytes = await frames.read(spec.maxRequestBytes, signal, progressed);
    call.received = bytes.byteLength;
    const body = decodeCbor(bytes, spec.request, spec.maxRequestBytes, REQUEST_ITEMS);
    const answer = encodeCbor({ ok: await handler(peer, body, { signal, ip }) });
    if (answer.byteLength > spec.maxResponseBytes + ANSWER_OVERHEAD_BYTES) {
      throw oversized(name, 'answer', answer.byteLength, spec.maxResponseBytes);
    }
    return answer;
  }
}

/** Sends an answer, and closes our side of the stream. */
async function send(
  frames: FrameStream,
  stream: Stream,
  answer: Uint8Array,
  { signal, progressed }: Transfer,
): Promise<void> {
  await frames.write([answer], signal, progressed);
  await closeStream(stream, { signal });
}

/** Returns the refusal of a call in an old version of the protocol. The old program prints the message to its user. */
function outdated(protocol: string): SwarmError {
  const message = `this peer speaks ${RPC_PROTOCOL} and no longer ${protocol}, so the caller must update lora-swarm`;
  return netError('PROTOCOL_VERSION', message, { protocol });
}

function busy(): SwarmError {
  return netError('RPC_BUSY', 'this peer is already serving as many calls of your address as it can');
}

/**
 * Returns the error that the caller receives. Only SwarmErrors are passed on, because other errors may
 * contain secrets.
 */
function refusalOf(error: unknown): { code: string; message: string } {
  if (!isSwarmError(error))
    return { code: 'INTERNAL', message: 'the call failed on the other side; see its log' };
  const code = isOversized(error) ? 'MESSAGE_TOO_LARGE' : error.code;
  return { code: code.slice(0, 64), message: error.message.slice(0, DETAIL_CHARACTERS) };
}
