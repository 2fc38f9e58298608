import { withDeadline } from '../../common/deadline.ts';
import { isSwarmError } from '../../common/errors.ts';
import { Permits } from '../../common/permits.ts';
import { PAYLOAD_CODES } from '../../lora/update/errors.ts';
import { BLOB_IDLE_TIMEOUT_MS } from '../../protocol/limits.ts';
import type { Update } from '../../protocol/messages.ts';
import type { BlobScope } from '../../storage/blob-collector.ts';
import { BLOB_CODES } from '../../storage/errors.ts';
import type { RunContext } from '../context.ts';
import { checkPayload } from '../merge/arithmetic.ts';
import type { Refusal } from './header-checks.ts';

/**
 * Largest number of payloads checked at once. Each payload is in memory as a whole, up to 64 MiB. A check never waits
 * for a peer, so no peer can hold up the others.
 */
export const PAYLOADS_AT_ONCE = 4;
/**
 * Largest number of announced payloads fetched at the same time, each from a different author. A slow author therefore
 * takes up only one of these fetches, whatever it announces. A fetch holds at most 28 ranges of 1 MiB in memory
 * (net/blobs/download.ts), so all fetches together stay below 0.5 GiB. More fetches would hardly be faster: 16 authors
 * with an upstream of 2 Mbit/s already exceed the downstream of most coordinators.
 */
export const FETCHES_AT_ONCE = 16;
/** Slowest rate, in bytes per second, at which an author may serve its payload: 2 Mbit/s, the upstream of a slow line. */
export const LEAST_FETCH_RATE = 256 * 1024;
/** Milliseconds that every fetch gets, whatever its size: enough for one stream that fails and a second one that works. */
const FETCH_START_MS = 2 * BLOB_IDLE_TIMEOUT_MS;

/** Codes of fetch errors whose cause is our own disk, not the author. */
const OWN_FAULTS: readonly string[] = ['STORE_FULL', 'WRITE_FAILED', 'HASH_FAILED'];

/** Returns the time limit for the fetch of an announced payload, in milliseconds. It counts from the start of the fetch. */
export function fetchTimeoutMs(size: number): number {
  return FETCH_START_MS + Math.ceil((size / LEAST_FETCH_RATE) * 1000);
}

/** Fetches and checks payloads. */
export class PayloadIntake {
  readonly #context: RunContext;
  readonly #checks = new Permits(PAYLOADS_AT_ONCE);
  readonly #fetches = new Permits(FETCHES_AT_ONCE);
  /** One permit for each author, and one for each digest. */
  readonly #fetchesOf = new Permits(1);

  constructor(deps: { context: RunContext }) {
    this.#context = deps.context;
  }

  /**
   * Fetches an update's payload if it is not inline, checks that it decodes, and stores it as a durable blob.
   * @param scope protects the blob from garbage collection
   * @returns null, or the reason for refusing the payload
   * @throws SwarmError STORE_FULL, WRITE_FAILED, HASH_FAILED: failures of our own disk, not the author's fault
   */
  async take(author: string, update: Update, scope: BlobScope): Promise<Refusal | null> {
    await scope.hold(update.payload.digest);
    const missing = update.inline === null ? await this.#fetch(author, update.payload) : null;
    return missing ?? this.#check(author, update, scope);
  }

  async #check(author: string, update: Update, scope: BlobScope): Promise<Refusal | null> {
    const { layout, signal, deps } = this.#context;
    const { digest, size } = update.payload;
    const release = await this.#checks.take('', signal);
    try {
      const payload = update.inline ?? (await deps.blobs.get(digest, { maxBytes: size }));
      if (payload.byteLength !== size) {
        const detail = `the update declares ${size} bytes, but its payload has ${payload.byteLength}`;
        return { code: 'size-mismatch', detail };
      }
      await checkPayload(payload, { layout, preset: update.preset }, { signal });
      await scope.put(payload, digest);
      deps.failpoint('update-blob');
      return null;
    } catch (error) {
      if (!isSwarmError(error)) throw error;
      // The stored blob differs from the announced one, or it is gone.
      if (BLOB_CODES.has(error.code)) return fetchRefusal(error.code, error.message);
      if (!PAYLOAD_CODES.has(error.code)) throw error;
      deps.log.debug({ peer: author, code: error.code, bytes: size }, 'payload-refused');
      return payloadRefusal(error.code, error.message);
    } finally {
      release();
    }
  }

  async #fetch(author: string, ref: { digest: string; size: number }): Promise<Refusal | null> {
    const { signal, deps } = this.#context;
    const { network, clock } = deps;
    const release = await this.#permitToFetch(author, ref.digest);
    const limits = { clock, ms: fetchTimeoutMs(ref.size), signal, what: `the payload of ${author}` };
    try {
      await withDeadline(limits, (signal) => network.fetchBlob(ref, { holders: [author], signal }));
      return null;
    } catch (error) {
      signal.throwIfAborted();
      if (!isSwarmError(error) || OWN_FAULTS.includes(error.code)) throw error;
      return fetchRefusal(error.code, error.message);
    } finally {
      release();
    }
  }

  /**
   * Takes three permits in this order: that of the author, that of the blob, and one of the FETCHES_AT_ONCE permits.
   * The time limit of a fetch starts only when it has all three. So if another author has announced the same blob and
   * does not serve it, waiting for that author does not use up the time limit.
   */
  async #permitToFetch(author: string, digest: string): Promise<() => void> {
    const { signal } = this.#context;
    const taken: (() => void)[] = [];
    const release = (): void => {
      for (const give of taken) give();
    };
    try {
      taken.push(await this.#fetchesOf.take(author, signal));
      taken.push(await this.#fetchesOf.take(digest, signal));
      taken.push(await this.#fetches.take('', signal));
      return release;
    } catch (error) {
      release();
      throw error;
    }
  }
}

/** Returns the refusal for an error of the decoder. */
function payloadRefusal(code: string, detail: string): Refusal {
  if (code === 'UPDATE_PRESET') return { code: 'wrong-preset', detail };
  if (code === 'UPDATE_SCALE') return { code: 'not-finite', detail };
  return { code: 'bad-payload', detail };
}

/** Returns the refusal for a failed fetch of an announced payload. */
function fetchRefusal(code: string, detail: string): Refusal {
  const isWrong = code === 'BLOB_SIZE' || code === 'BLOB_CORRUPT';
  return { code: isWrong ? 'size-mismatch' : 'unavailable', detail };
}
