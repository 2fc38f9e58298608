import { raceSignal } from 'race-signal';
import { isSwarmError, type SwarmError } from '../../common/errors.ts';
import { Permits } from '../../common/limits/permits.ts';
import type { Logger } from '../../common/logger.ts';
import type { Clock } from '../../common/time/clock.ts';
import { BLOB_BYTES } from '../../protocol/limits.ts';
import type { ResumableBlobs } from '../../storage/blob-store.ts';
import { storageError } from '../../storage/errors.ts';
import type { PartialBlob } from '../../storage/partial-blob.ts';
import type { RateLimit } from '../bandwidth.ts';
import { netError } from '../errors.ts';
import type { Streams } from '../libp2p/streams.ts';
import type { NetworkMeter } from '../meter.ts';
import type { FetchBlobOptions } from '../network.ts';
import { Download } from './download.ts';
import { RangePool } from './range-buffers.ts';
import { BLOB_STREAMS_PER_CONNECTION } from './wire.ts';

export interface BlobFetcherDeps {
  streams: Streams;
  blobs: ResumableBlobs;
  clock: Clock;
  log: Logger;
  meter: NetworkMeter;
  /** Limit on the rate at which bytes are fetched. @default no limit */
  download?: RateLimit;
}

interface Ref {
  digest: string;
  size: number;
}

/** Fetches blobs from other peers into the local store. */
export class BlobFetcher {
  readonly #deps: BlobFetcherDeps;
  readonly #permits = new Permits(BLOB_STREAMS_PER_CONNECTION);
  readonly #pool = new RangePool();
  /** The running fetches of each store, by digest. */
  readonly #running = new WeakMap<ResumableBlobs, Map<string, Promise<void>>>();

  constructor(deps: BlobFetcherDeps) {
    this.#deps = deps;
  }

  /**
   * Fetches a blob. If the store already has the blob, fetches it only with the option `again`.
   * @throws SwarmError BLOB_UNAVAILABLE, BLOB_CORRUPT, BLOB_SIZE, STORE_FULL, WRITE_FAILED; the signal's reason; an
   *   error that `onProgress` throws
   */
  async fetch(ref: Ref, options: FetchBlobOptions): Promise<void> {
    if (ref.size > BLOB_BYTES) {
      throw storageError(
        'BLOB_SIZE',
        `blob ${ref.digest} of ${ref.size} bytes exceeds the limit of ${BLOB_BYTES}`,
        { ...ref },
      );
    }
    const { into = this.#deps.blobs } = options;
    const running = this.#running.get(into) ?? new Map<string, Promise<void>>();
    this.#running.set(into, running);
    // Each blob of a store has one fetch at a time. A second fetch waits for the first one. Then it finds the blob in the store,
    // or resumes where the first one failed.
    for (let other = running.get(ref.digest); other; other = running.get(ref.digest)) {
      await raceSignal(other, options.signal);
    }
    options.signal.throwIfAborted();
    const run = this.#fetchAlone(ref, into, options);
    // The caller of this fetch gets its error from `await run` below. Other callers only wait until this
    // fetch has ended, and then try themselves.
    const settled = run.catch(() => {}).finally(() => running.delete(ref.digest));
    running.set(ref.digest, settled);
    await run;
  }

  async #fetchAlone(ref: Ref, blobs: ResumableBlobs, options: FetchBlobOptions): Promise<void> {
    const { clock, meter } = this.#deps;
    const { origin } = options;
    if (!options.again && (await blobs.has(ref.digest))) return;
    const start = clock.monotonic();
    const partial = await blobs.resume(origin === undefined ? ref : { ...ref, origin });
    let code = 'ok';
    try {
      await this.#complete(partial, ref, options);
    } catch (error) {
      code = isSwarmError(error) ? error.code : 'aborted';
      await partial.close();
      throw error;
    } finally {
      meter.blobFetch({ code, seconds: (clock.monotonic() - start) / 1000 });
    }
  }

  /**
   * Fetches from all holders at once. If the digest of the result does not match, it is not known which holder sent bad
   * bytes. Each holder is then tried alone, from the beginning, until an honest one is found.
   */
  async #complete(partial: PartialBlob, ref: Ref, options: FetchBlobOptions): Promise<void> {
    const corrupt = new Set<string>();
    const failures = new Map<string, unknown>();
    let groups: (readonly string[])[] = [options.holders];
    for (let group = groups.shift(); group !== undefined; group = groups.shift()) {
      const { resumed } = partial;
      const download = new Download(
        {
          partial,
          digest: ref.digest,
          holders: group,
          prove: options.prove,
          signal: options.signal,
          onProgress: options.onProgress,
          onArrival: options.onArrival,
        },
        { ...this.#deps, permits: this.#permits, pool: this.#pool },
      );
      await download.run();
      for (const [peer, failure] of download.failures) failures.set(peer, failure);
      if (!partial.complete) {
        if (groups.length === 0) break;
        await partial.reset();
        continue;
      }
      try {
        return await partial.finish();
      } catch (error) {
        if (!isSwarmError(error, 'BLOB_CORRUPT')) throw error;
        this.#deps.log.warn({ digest: ref.digest, sources: [...download.sources], resumed }, 'blob-corrupt');
        if (download.sources.size === 1 && !resumed) for (const peer of download.sources) corrupt.add(peer);
        groups = (group.length > 1 || resumed ? options.holders.map((peer) => [peer]) : groups).filter(
          ([peer]) => !corrupt.has(peer!),
        );
      }
    }
    throw failure(ref, failures, corrupt);
  }
}

/** Builds the error of a failed fetch, with the reason of each holder. */
function failure(ref: Ref, failures: ReadonlyMap<string, unknown>, corrupt: ReadonlySet<string>): SwarmError {
  const holders: Record<string, string> = {};
  for (const [peer, error] of failures)
    holders[peer] = error instanceof Error ? error.message : String(error);
  for (const peer of corrupt) holders[peer] = 'sent bytes that do not match the digest';
  const reasons = Object.entries(holders)
    .map(([peer, reason]) => `${peer}: ${reason}`)
    .join('; ');
  const values = { ...ref, holders };
  if (corrupt.size > 0 && corrupt.size === Object.keys(holders).length) {
    const message = `all holders sent damaged bytes of blob ${ref.digest} (${reasons})`;
    return storageError('BLOB_CORRUPT', message, values);
  }
  const wrongSizes = [...failures.values()].filter((error) => isSwarmError(error, 'BLOB_SIZE'));
  if (wrongSizes.length > 0 && wrongSizes.length === failures.size && corrupt.size === 0) {
    const message = `the holders have blob ${ref.digest} with a different size (${reasons})`;
    return storageError('BLOB_SIZE', message, values);
  }
  return netError(
    'BLOB_UNAVAILABLE',
    `blob ${ref.digest} could not be fetched (${reasons || 'no holder is known'})`,
    values,
  );
}
