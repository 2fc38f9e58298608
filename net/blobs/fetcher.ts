import type { Clock } from '../../common/clock.ts';
import { isSwarmError, type SwarmError } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import { Permits } from '../../common/permits.ts';
import { BLOB_BYTES } from '../../protocol/limits.ts';
import type { ResumableBlobs } from '../../storage/blob-store.ts';
import { storageError } from '../../storage/errors.ts';
import type { PartialBlob } from '../../storage/partial-blob.ts';
import { netError } from '../errors.ts';
import type { Streams } from '../libp2p/streams.ts';
import type { FetchBlobOptions } from '../network.ts';
import { Pull } from './download.ts';
import { RangePool } from './range-buffers.ts';
import { BLOB_STREAMS_PER_CONNECTION } from './wire.ts';

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

/** Pulls blobs from other peers into the local store. */
export class BlobFetcher {
  readonly #deps: BlobFetcherDeps;
  readonly #permits = new Permits(BLOB_STREAMS_PER_CONNECTION);
  readonly #pool = new RangePool();
  readonly #running = new Map<string, Promise<void>>();

  constructor(deps: BlobFetcherDeps) {
    this.#deps = deps;
  }

  /** @throws SwarmError BLOB_UNAVAILABLE, BLOB_CORRUPT, BLOB_SIZE, STORE_FULL, WRITE_FAILED, or the signal's reason */
  async fetch(ref: Ref, options: FetchBlobOptions): Promise<void> {
    if (ref.size > BLOB_BYTES) {
      throw storageError('BLOB_SIZE', `blob ${ref.digest} of ${ref.size} bytes exceeds ${BLOB_BYTES}`, {
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
      const pull = new Pull(
        {
          partial,
          digest: ref.digest,
          holders: group,
          signal: options.signal,
          onProgress: options.onProgress,
        },
        { ...this.#deps, permits: this.#permits, pool: this.#pool },
      );
      await pull.run();
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
}

function failure(ref: Ref, failures: ReadonlyMap<string, unknown>, corrupt: ReadonlySet<string>): SwarmError {
  const holders: Record<string, string> = {};
  for (const [peer, error] of failures)
    holders[peer] = error instanceof Error ? error.message : String(error);
  for (const peer of corrupt) holders[peer] = 'sent bytes that do not fit the digest';
  const said = Object.entries(holders).map(([peer, reason]) => `${peer}: ${reason}`);
  const values = { ...ref, holders };
  if (corrupt.size > 0 && corrupt.size === Object.keys(holders).length) {
    return storageError(
      'BLOB_CORRUPT',
      `no holder has blob ${ref.digest} undamaged (${said.join('; ')})`,
      values,
    );
  }
  const lies = [...failures.values()].filter((error) => isSwarmError(error, 'BLOB_SIZE'));
  if (lies.length > 0 && lies.length === failures.size && corrupt.size === 0) {
    return storageError(
      'BLOB_SIZE',
      `blob ${ref.digest} has another size at its holders (${said.join('; ')})`,
      values,
    );
  }
  const reasons = said.length === 0 ? 'no holder is known' : said.join('; ');
  return netError('BLOB_UNAVAILABLE', `blob ${ref.digest} could not be fetched (${reasons})`, values);
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    else signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
}
