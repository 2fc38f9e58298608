import { isSwarmError } from '../../common/errors.ts';
import type { Permits } from '../../common/limits/permits.ts';
import type { Clock } from '../../common/time/clock.ts';
import { sleep } from '../../common/time/deadline.ts';
import { BLOB_IDLE_TIMEOUT_MS } from '../../protocol/limits.ts';
import { HELD_RANGES } from '../../storage/ordered-hash.ts';
import type { PartialBlob } from '../../storage/partial-blob.ts';
import type { RateLimit } from '../bandwidth.ts';
import type { Streams } from '../libp2p/streams.ts';
import type { NetworkMeter } from '../meter.ts';
import type { FetchBlobOptions } from '../network.ts';
import { type BegunRange, BegunRanges } from './begun-ranges.ts';
import { Holder, STREAMS_PER_HOLDER } from './holder.ts';
import { RangeBuffers, type RangePool } from './range-buffers.ts';
import { RangeQueue } from './range-queue.ts';
import { openRangeStream, type RangeStream } from './range-stream.ts';
import { BLOB_RANGE_TIMEOUT_MS } from './wire.ts';

/** Maximum number of holders from which ranges are requested at the same time. */
const HOLDERS_AT_ONCE = 4;
/**
 * Number of ranges in memory per holder. Each stream has two: the range that is arriving, and the previous range, which
 * is being written and hashed.
 */
const BUFFERS_PER_HOLDER = 2 * STREAMS_PER_HOLDER;
/** Number of failures in a row on one stream after which no more ranges are requested from its holder. */
const TRIES = 3;
/** Number of `busy` answers in a row after which no more ranges are requested from a holder. */
const BUSY_TRIES = 60;
/**
 * Time in milliseconds without a request after which the download closes a stream. A holder would close the stream
 * after BLOB_IDLE_TIMEOUT_MS.
 */
const IDLE_STREAM_MS = BLOB_IDLE_TIMEOUT_MS / 2;
const RETRY_MS = 250;
const RETRY_LIMIT_MS = 4_000;

export interface DownloadOptions {
  partial: PartialBlob;
  digest: string;
  holders: readonly string[];
  prove: FetchBlobOptions['prove'];
  signal: AbortSignal;
  onProgress: ((progress: { bytes: number; total: number }) => void) | undefined;
  /** Called after each frame that arrives. @default does nothing */
  onArrival?: (() => void) | undefined;
}

export interface DownloadDeps {
  streams: Streams;
  clock: Clock;
  /** Permits by peer, shared by all blobs that are being fetched. Each open stream holds one permit. */
  permits: Permits;
  pool: RangePool;
  meter: NetworkMeter;
  /** Limits the rate at which bytes are fetched. @default no limit */
  download?: RateLimit;
}

/**
 * One attempt to complete a blob. Fetches from several holders at once, and several ranges at a time from each holder.
 */
export class Download {
  /** The holders from which no more ranges are requested, each with the error that was the reason. */
  readonly failures = new Map<string, unknown>();
  /** The holders whose bytes were stored. */
  readonly sources = new Set<string>();
  readonly #options: DownloadOptions;
  readonly #deps: DownloadDeps;
  readonly #queue: RangeQueue;
  readonly #buffers: RangeBuffers;
  readonly #begun: BegunRanges;
  /** Aborted when the attempt ends, for example because the blob is complete or the disk is full. */
  readonly #stop = new AbortController();
  /** The first error of storing a range or of the caller's `onProgress`. */
  #failure: { error: unknown } | null = null;
  readonly #signal: AbortSignal;

  constructor(options: DownloadOptions, deps: DownloadDeps) {
    this.#options = options;
    this.#deps = deps;
    this.#signal = AbortSignal.any([options.signal, this.#stop.signal]);
    this.#queue = new RangeQueue(options.partial);
    // Ranges are hashed in order, so a range that arrives early keeps its buffer until it is hashed. The HELD_RANGES
    // additional buffers are for such ranges. Without them, the early ranges could take all buffers, and no buffer would
    // be left for the missing range that must be hashed first.
    const holders = Math.min(HOLDERS_AT_ONCE, options.holders.length);
    const begun = holders * STREAMS_PER_HOLDER;
    const most = HELD_RANGES + holders * BUFFERS_PER_HOLDER + begun;
    this.#buffers = new RangeBuffers({ most }, deps);
    this.#begun = new BegunRanges({ most: begun }, { buffers: this.#buffers, partial: options.partial });
  }

  /**
   * Fetches until the blob is complete or no holder is left.
   * @throws the signal's reason, SwarmError STORE_FULL, WRITE_FAILED; an error that `onProgress` throws
   */
  async run(): Promise<void> {
    const { signal, holders } = this.#options;
    const reserve = [...new Set(holders)];
    const slot = async (): Promise<void> => {
      for (let peer = reserve.shift(); peer !== undefined && !this.#signal.aborted; peer = reserve.shift()) {
        await this.#runStream(new Holder(peer));
      }
    };
    try {
      signal.throwIfAborted();
      await Promise.all(Array.from({ length: HOLDERS_AT_ONCE }, slot));
    } finally {
      this.#stop.abort();
      this.#begun.clear();
    }
    signal.throwIfAborted();
    if (this.#failure !== null) throw this.#failure.error;
  }

  /** Runs one more stream to a holder, and the streams that are opened because its ranges arrive fast. */
  async #runStream(holder: Holder): Promise<void> {
    holder.open++;
    // The wait for a permit fails only if the attempt has ended, and then this stream is not needed.
    const release = await this.#deps.permits.take(holder.peer, this.#signal).catch(() => null);
    if (release === null) return;
    const further: Promise<void>[] = [];
    try {
      await this.#fetchRanges(holder, () => further.push(this.#runStream(holder)));
    } finally {
      release();
    }
    await Promise.all(further);
  }

  /**
   * Fetches ranges from one holder over one stream. Ends when no range is left, when a range fails while the holder has
   * other streams, or when too many attempts to fetch from the holder have failed.
   */
  async #fetchRanges(holder: Holder, openAnother: () => void): Promise<void> {
    const { peer } = holder;
    const signal = this.#signal;
    const limit = this.#deps.download;
    let stream: RangeStream | undefined;
    let failed = 0;
    let busy = 0;
    // The previous range is written and hashed while the next one arrives.
    let storing: Promise<void> = Promise.resolve();
    while (!this.failures.has(peer)) {
      const range = await this.#queue.next(peer, signal);
      if (range === null) break;
      try {
        // Close the stream before a long wait, because a holder closes a stream that is idle for a while.
        if (stream !== undefined && (limit?.waitMs() ?? 0) > IDLE_STREAM_MS) {
          await stream.close();
          stream = undefined;
        }
        const { length } = this.#options.partial.extent(range);
        await limit?.take(length, signal);
        let arrived: Arrived;
        try {
          stream ??= await openRangeStream(peer, this.#deps, signal);
          arrived = await this.#receive(holder, stream, range);
        } catch (error) {
          // Refund the whole range. The limit also counts all bytes that cross the network, so it counts the part of
          // the range that did arrive.
          limit?.refund(length);
          throw error;
        }
        // Earlier requests have fetched a part of the range already, and the limit has counted this part.
        limit?.refund(length - arrived.fresh);
        await storing;
        storing = this.#store(peer, range, arrived.begun);
        failed = 0;
        busy = 0;
        if (holder.mayOpen(arrived.fresh, arrived.seconds)) openAnother();
      } catch (error) {
        this.#queue.failed(range, peer);
        const isBusy = isSwarmError(error, 'BLOB_BUSY');
        if (!isBusy) {
          stream?.abort(error);
          stream = undefined;
        }
        if (signal.aborted) break;
        const tries = isBusy ? ++busy : ++failed;
        if (isLasting(error)) this.failures.set(peer, error);
        else if (!isBusy && holder.open > 1) {
          // The holder may be too slow for this number of streams.
          holder.open--;
          break;
        } else if (tries >= (isBusy ? BUSY_TRIES : TRIES)) this.failures.set(peer, error);
        else await this.#pause(tries);
      }
    }
    await storing;
    await stream?.close();
  }

  /** Fetches the bytes of a range that have not arrived yet. */
  async #receive(holder: Holder, stream: RangeStream, range: number): Promise<Arrived> {
    const { partial } = this.#options;
    const { clock } = this.#deps;
    const begun = await this.#begun.take(range, this.#signal);
    const { length } = partial.extent(range);
    const before = begun.bytes;
    const start = clock.monotonic();
    try {
      while (begun.bytes < length) {
        const totalMs = BLOB_RANGE_TIMEOUT_MS - (clock.monotonic() - start);
        await this.#request(holder, stream, range, { begun, totalMs });
      }
    } catch (error) {
      this.#begun.keep(range, begun);
      throw error;
    }
    return { begun, fresh: length - before, seconds: (clock.monotonic() - start) / 1000 };
  }

  /** Requests the next bytes of a range, as many as the holder can send in some seconds. */
  async #request(
    holder: Holder,
    stream: RangeStream,
    range: number,
    { begun, totalMs }: { begun: BegunRange; totalMs: number },
  ): Promise<void> {
    const { partial, digest, prove, onArrival: report = () => {} } = this.#options;
    const { clock, meter } = this.#deps;
    const { peer } = holder;
    const extent = partial.extent(range);
    const offset = extent.offset + begun.bytes;
    const length = Math.min(extent.length - begun.bytes, holder.requestBytes);
    const target = begun.buffer.subarray(begun.bytes, begun.bytes + length);
    const onArrival = (bytes: number): void => {
      begun.bytes += bytes;
      begun.sources.add(peer);
      report();
    };
    const start = clock.monotonic();
    let code = 'ok';
    try {
      const request = { digest, offset, length, ...(prove && { proof: prove(peer) }) };
      await stream.range(request, { size: partial.size, target, onArrival, totalMs }, this.#signal);
    } catch (error) {
      code = isSwarmError(error) ? error.code : 'aborted';
      throw error;
    } finally {
      const seconds = (clock.monotonic() - start) / 1000;
      meter.blobRange({ direction: 'inbound', code, bytes: code === 'ok' ? length : 0, seconds });
      if (code === 'ok') holder.answered(length, seconds);
    }
  }

  /** Stores a range and reports it. Never rejects. An error of the disk or of `onProgress` ends the whole download. */
  async #store(peer: string, range: number, { buffer, bytes, sources }: BegunRange): Promise<void> {
    const { partial, onProgress } = this.#options;
    try {
      const whole = buffer.subarray(0, bytes);
      if (await partial.write(range, whole, (part) => this.#buffers.give(part)))
        for (const source of sources) this.sources.add(source);
      this.#begun.drop(range);
      this.#queue.arrived(range);
      onProgress?.({ bytes: partial.bytes, total: partial.size });
      // Some requests may still wait for a range that another holder has delivered. The abort ends these requests.
      if (partial.complete) this.#stop.abort();
    } catch (error) {
      this.#failure ??= { error };
      this.#queue.failed(range, peer);
      this.#stop.abort(error);
    }
  }

  async #pause(tries: number): Promise<void> {
    const ms = Math.min(RETRY_LIMIT_MS, RETRY_MS * 2 ** tries);
    await sleep(this.#deps.clock, ms, this.#signal).catch(() => {});
  }
}

/** A range that has arrived. */
interface Arrived {
  readonly begun: BegunRange;
  /** Number of bytes that the last holder has sent. */
  readonly fresh: number;
  /** Time in which these bytes have arrived. */
  readonly seconds: number;
}

/** Returns whether an error concerns the whole holder and not just one stream. If so, a retry is pointless. */
function isLasting(error: unknown): boolean {
  const codes = [
    'BLOB_MISSING',
    'BLOB_SIZE',
    'MESSAGE_MALFORMED',
    'MESSAGE_INVALID',
    'FRAME_TOO_LARGE',
    'FRAME_FLOOD',
  ];
  return codes.some((code) => isSwarmError(error, code));
}
