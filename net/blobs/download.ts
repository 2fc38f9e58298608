import type { Clock } from '../../common/clock.ts';
import { sleep } from '../../common/deadline.ts';
import { isSwarmError } from '../../common/errors.ts';
import type { Permits } from '../../common/permits.ts';
import { HELD_RANGES } from '../../storage/ordered-hash.ts';
import type { PartialBlob } from '../../storage/partial-blob.ts';
import type { Streams } from '../libp2p/streams.ts';
import { RangeBuffers, type RangePool } from './range-buffers.ts';
import { RangeQueue } from './range-queue.ts';
import { openRangeStream, type RangeStream } from './range-stream.ts';

/** Ranges in flight from one holder: enough to keep the connection busy while others are written and hashed. */
const LANES_PER_HOLDER = 6;
/** Holders asked at the same time. */
const HOLDERS_AT_ONCE = 4;
/** Ranges in memory per holder: each lane's in flight, and its last one while it is written and hashed. */
const BUFFERS_PER_HOLDER = 2 * LANES_PER_HOLDER;
/** Failures in a row after which a lane gives its holder up. */
const TRIES = 3;
/** A holder that is busy with others is asked again and again; after this many times it is as good as gone. */
const BUSY_TRIES = 60;
const RETRY_MS = 250;
const RETRY_LIMIT_MS = 4_000;

export interface PullOptions {
  partial: PartialBlob;
  digest: string;
  holders: readonly string[];
  signal: AbortSignal;
  onProgress: ((progress: { bytes: number; total: number }) => void) | undefined;
}

export interface PullDeps {
  streams: Streams;
  clock: Clock;
  /** One per open lane and peer, over all blobs that are being fetched. */
  permits: Permits;
  pool: RangePool;
}

/** One attempt to complete a blob from some holders, several of them at once, several ranges from each. */
export class Pull {
  /** Why each holder was given up. */
  readonly failures = new Map<string, unknown>();
  /** Whose bytes are in the blob. */
  readonly sources = new Set<string>();
  readonly #options: PullOptions;
  readonly #deps: PullDeps;
  readonly #queue: RangeQueue;
  readonly #buffers: RangeBuffers;
  /** Aborts when nothing more is wanted: complete, given up by the caller, or the disk is full. */
  readonly #stop = new AbortController();

  constructor(options: PullOptions, deps: PullDeps) {
    this.#options = options;
    this.#deps = deps;
    this.#queue = new RangeQueue(options.partial);
    // Those that wait for their turn in the hash come on top: they must never keep away the one they wait for.
    const holders = Math.min(HOLDERS_AT_ONCE, options.holders.length);
    this.#buffers = new RangeBuffers({ most: HELD_RANGES + holders * BUFFERS_PER_HOLDER }, deps);
  }

  /**
   * Resolves when the blob is complete or no holder is left.
   * @throws the signal's reason, SwarmError STORE_FULL, WRITE_FAILED
   */
  async run(): Promise<void> {
    const { signal, holders } = this.#options;
    const onAbort = (): void => this.#stop.abort(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    const reserve = [...new Set(holders)];
    const slot = async (): Promise<void> => {
      for (
        let peer = reserve.shift();
        peer !== undefined && !this.#stop.signal.aborted;
        peer = reserve.shift()
      ) {
        const holder = peer;
        await Promise.all(Array.from({ length: LANES_PER_HOLDER }, () => this.#runLane(holder)));
      }
    };
    try {
      signal.throwIfAborted();
      await Promise.all(Array.from({ length: HOLDERS_AT_ONCE }, slot));
    } finally {
      signal.removeEventListener('abort', onAbort);
      this.#stop.abort();
    }
    signal.throwIfAborted();
    if (isSwarmError(this.#stop.signal.reason)) throw this.#stop.signal.reason;
  }

  async #runLane(peer: string): Promise<void> {
    const { signal } = this.#stop;
    const give = await this.#deps.permits.take(peer, signal).catch(() => null);
    if (give === null) return;
    try {
      await this.#takeRanges(peer);
    } finally {
      give();
    }
  }

  /** Takes ranges from one holder over one stream until none is left or the holder has to be given up. */
  async #takeRanges(peer: string): Promise<void> {
    const { signal } = this.#stop;
    let lane: RangeStream | undefined;
    let failed = 0;
    let busy = 0;
    // The range before is written and hashed while the next one is on its way.
    let storing: Promise<void> = Promise.resolve();
    while (!this.failures.has(peer)) {
      const range = await this.#queue.next(peer, signal);
      if (range === null) break;
      try {
        lane ??= await openRangeStream(peer, this.#deps, signal);
        const buffer = await this.#receive(lane, range);
        await storing;
        storing = this.#store(peer, range, buffer);
        failed = 0;
        busy = 0;
      } catch (error) {
        this.#queue.failed(range, peer);
        const isBusy = isSwarmError(error, 'BLOB_BUSY');
        if (!isBusy) {
          lane?.abort(error);
          lane = undefined;
        }
        if (signal.aborted) break;
        const tries = isBusy ? ++busy : ++failed;
        if (isLasting(error) || tries >= (isBusy ? BUSY_TRIES : TRIES)) this.failures.set(peer, error);
        else await this.#pause(tries);
      }
    }
    await storing;
    await lane?.close().catch((error: unknown) => lane?.abort(error));
  }

  async #receive(lane: RangeStream, range: number): Promise<Uint8Array> {
    const { partial, digest } = this.#options;
    const { signal } = this.#stop;
    const buffer = await this.#buffers.take(signal);
    try {
      await lane.range({ digest, ...partial.extent(range) }, partial.size, buffer, signal);
      return buffer;
    } catch (error) {
      this.#buffers.give(buffer);
      throw error;
    }
  }

  /** Puts a range where it belongs. Never rejects: a store that cannot be written to ends the whole attempt. */
  async #store(peer: string, range: number, buffer: Uint8Array): Promise<void> {
    const { partial, onProgress } = this.#options;
    try {
      const bytes = buffer.subarray(0, partial.extent(range).length);
      if (await partial.write(range, bytes, (part) => this.#buffers.give(part))) this.sources.add(peer);
      this.#queue.arrived(range);
      onProgress?.({ bytes: partial.bytes, total: partial.size });
      // Ranges that a second holder was asked for are not needed any more.
      if (partial.complete) this.#stop.abort();
    } catch (error) {
      this.#queue.failed(range, peer);
      this.#stop.abort(error);
    }
  }

  async #pause(tries: number): Promise<void> {
    const ms = Math.min(RETRY_LIMIT_MS, RETRY_MS * 2 ** tries);
    await sleep(this.#deps.clock, ms, this.#stop.signal).catch(() => {});
  }
}

/** What a holder is or has, as opposed to what befell one stream. */
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
