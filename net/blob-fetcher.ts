import type { Clock } from '../protocol/clock.ts';
import { isSwarmError, SwarmError } from '../protocol/errors.ts';
import { BLOB_BYTES, BLOB_RANGE_BYTES } from '../protocol/limits.ts';
import type { Logger } from '../protocol/logger.ts';
import { type Lane, openLane } from './blob-lane.ts';
import type { ResumableBlobs } from './blob-store.ts';
import { sleep } from './deadline.ts';
import type { FetchBlobOptions } from './network.ts';
import type { PartialBlob } from './partial-blob.ts';
import { RangeQueue } from './range-queue.ts';
import type { Streams } from './streams.ts';

/** Ranges in flight from one holder: enough to keep the connection busy while others are written and hashed. */
const LANES_PER_HOLDER = 8;
/** Holders asked at the same time; with their lanes, 16 MiB of ranges are in flight at most. */
const HOLDERS_AT_ONCE = 4;
/** Failures in a row after which a lane gives its holder up. */
const TRIES = 3;
const RETRY_MS = 250;

export interface BlobFetcherDeps {
  streams: Streams;
  blobs: ResumableBlobs;
  clock: Clock;
  log: Logger;
}

interface Ref {
  digest: string;
  size: number;
}

/** One attempt to complete a blob from some holders. */
interface Pull {
  ref: Ref;
  partial: PartialBlob;
  queue: RangeQueue;
  /** Aborts when nothing more is wanted: complete, given up by the caller, or the disk is full. */
  stop: AbortController;
  /** Why each holder was given up. */
  failures: Map<string, unknown>;
  /** Whose bytes are in the blob. */
  sources: Set<string>;
  /** Buffers of one range each, to be used again. */
  buffers: Uint8Array[];
  onProgress: FetchBlobOptions['onProgress'];
}

/** Pulls blobs from other peers into the local store. */
export class BlobFetcher {
  readonly #deps: BlobFetcherDeps;
  readonly #running = new Map<string, Promise<void>>();

  constructor(deps: BlobFetcherDeps) {
    this.#deps = deps;
  }

  /** @throws SwarmError BLOB_UNAVAILABLE, BLOB_CORRUPT, BLOB_SIZE, STORE_FULL, WRITE_FAILED, or the signal's reason */
  async fetch(ref: Ref, options: FetchBlobOptions): Promise<void> {
    if (ref.size > BLOB_BYTES) {
      throw new SwarmError('BLOB_SIZE', `blob ${ref.digest} of ${ref.size} bytes exceeds ${BLOB_BYTES}`, {
        ...ref,
      });
    }
    // One fetch per blob at a time: a second one waits, and finds it there or goes on where the first gave up.
    for (let other = this.#running.get(ref.digest); other; other = this.#running.get(ref.digest)) {
      await Promise.race([other, aborted(options.signal)]);
    }
    options.signal.throwIfAborted();
    const run = this.#fetchAlone(ref, options);
    const settled = run.catch(() => {}).finally(() => this.#running.delete(ref.digest));
    this.#running.set(ref.digest, settled);
    await run;
  }

  async #fetchAlone(ref: Ref, options: FetchBlobOptions): Promise<void> {
    const { blobs } = this.#deps;
    if (await blobs.has(ref.digest)) return;
    const partial = await blobs.resume(ref);
    let finished = false;
    try {
      await this.#complete(partial, ref, options);
      finished = true;
    } finally {
      if (!finished) await partial.close();
    }
  }

  /**
   * All holders at once first. If what they sent does not fit the digest, a whole-blob digest cannot tell whose bytes
   * were bad: then one holder after the other, from the beginning, until one is found that is honest.
   */
  async #complete(partial: PartialBlob, ref: Ref, options: FetchBlobOptions): Promise<void> {
    const corrupt = new Set<string>();
    const failures = new Map<string, unknown>();
    let groups: (readonly string[])[] = [options.holders];
    for (let group = groups.shift(); group !== undefined; group = groups.shift()) {
      const { resumed } = partial;
      const pull = await this.#pull(partial, ref, group, options);
      for (const [peer, failure] of pull.failures) failures.set(peer, failure);
      if (!partial.complete) {
        if (groups.length === 0) break;
        await partial.reset();
        continue;
      }
      try {
        return await partial.finish();
      } catch (error) {
        if (!isSwarmError(error, 'BLOB_CORRUPT')) throw error;
        this.#deps.log.warn({ digest: ref.digest, sources: [...pull.sources], resumed }, 'blob.corrupt');
        if (pull.sources.size === 1 && !resumed) for (const peer of pull.sources) corrupt.add(peer);
        groups = (group.length > 1 || resumed ? options.holders.map((peer) => [peer]) : groups).filter(
          ([peer]) => !corrupt.has(peer!),
        );
      }
    }
    throw failure(ref, failures, corrupt);
  }

  async #pull(
    partial: PartialBlob,
    ref: Ref,
    holders: readonly string[],
    options: FetchBlobOptions,
  ): Promise<Pull> {
    const stop = new AbortController();
    const onAbort = (): void => stop.abort(options.signal.reason);
    options.signal.addEventListener('abort', onAbort, { once: true });
    const pull: Pull = {
      ref,
      partial,
      queue: new RangeQueue(partial),
      stop,
      failures: new Map(),
      sources: new Set(),
      buffers: [],
      onProgress: options.onProgress,
    };
    const reserve = [...new Set(holders)];
    const slot = async (): Promise<void> => {
      for (let peer = reserve.shift(); peer !== undefined && !stop.signal.aborted; peer = reserve.shift()) {
        const holder = peer;
        await Promise.all(Array.from({ length: LANES_PER_HOLDER }, () => this.#runLane(pull, holder)));
      }
    };
    try {
      await Promise.all(Array.from({ length: HOLDERS_AT_ONCE }, slot));
    } finally {
      options.signal.removeEventListener('abort', onAbort);
      stop.abort();
    }
    options.signal.throwIfAborted();
    if (isSwarmError(stop.signal.reason)) throw stop.signal.reason;
    return pull;
  }

  /** Takes ranges from one holder over one stream until none is left or the holder has to be given up. */
  async #runLane(pull: Pull, peer: string): Promise<void> {
    const { partial, queue, stop, failures, ref } = pull;
    let lane: Lane | undefined;
    let failed = 0;
    while (!failures.has(peer)) {
      const range = await queue.next(peer, stop.signal);
      if (range === null) break;
      try {
        lane ??= await openLane(peer, this.#deps, stop.signal);
        const extent = partial.extent(range);
        const bytes = pull.buffers.pop() ?? Buffer.allocUnsafeSlow(BLOB_RANGE_BYTES);
        await lane.range({ digest: ref.digest, ...extent }, ref.size, bytes, stop.signal);
        const isNew = await partial.write(range, bytes.subarray(0, extent.length), () =>
          pull.buffers.push(bytes),
        );
        if (isNew) pull.sources.add(peer);
        queue.arrived(range);
        failed = 0;
        pull.onProgress?.({ bytes: partial.bytes, total: ref.size });
        // Ranges that a second holder was asked for are not needed any more.
        if (partial.complete) stop.abort();
      } catch (error) {
        lane?.abort(error);
        lane = undefined;
        queue.failed(range, peer);
        if (stop.signal.aborted) break;
        if (isSwarmError(error, 'STORE_FULL') || isSwarmError(error, 'WRITE_FAILED')) stop.abort(error);
        else if (isLasting(error) || ++failed >= TRIES) failures.set(peer, error);
        else await sleep(this.#deps.clock, RETRY_MS * 2 ** failed, stop.signal).catch(() => {});
      }
    }
    await lane?.close().catch((error: unknown) => lane?.abort(error));
  }
}

/** What a holder is or has, as opposed to what befell one stream. */
function isLasting(error: unknown): boolean {
  const codes = ['BLOB_MISSING', 'BLOB_SIZE', 'MESSAGE_MALFORMED', 'MESSAGE_INVALID', 'FRAME_TOO_LARGE'];
  return codes.some((code) => isSwarmError(error, code));
}

function failure(ref: Ref, failures: ReadonlyMap<string, unknown>, corrupt: ReadonlySet<string>): SwarmError {
  const holders: Record<string, string> = {};
  for (const [peer, error] of failures)
    holders[peer] = error instanceof Error ? error.message : String(error);
  for (const peer of corrupt) holders[peer] = 'sent bytes that do not fit the digest';
  const said = Object.entries(holders).map(([peer, reason]) => `${peer}: ${reason}`);
  const values = { ...ref, holders };
  if (corrupt.size > 0 && corrupt.size === Object.keys(holders).length) {
    return new SwarmError(
      'BLOB_CORRUPT',
      `no holder has blob ${ref.digest} undamaged (${said.join('; ')})`,
      values,
    );
  }
  const lies = [...failures.values()].filter((error) => isSwarmError(error, 'BLOB_SIZE'));
  if (lies.length > 0 && lies.length === failures.size && corrupt.size === 0) {
    return new SwarmError(
      'BLOB_SIZE',
      `blob ${ref.digest} has another size at its holders (${said.join('; ')})`,
      values,
    );
  }
  const reasons = said.length === 0 ? 'no holder is known' : said.join('; ');
  return new SwarmError('BLOB_UNAVAILABLE', `blob ${ref.digest} could not be fetched (${reasons})`, values);
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    else signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
}
