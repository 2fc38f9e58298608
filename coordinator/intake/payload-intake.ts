import { isSwarmError } from '../../common/errors.ts';
import { Permits } from '../../common/limits/permits.ts';
import { PAYLOAD_CODES } from '../../lora/update/errors.ts';
import type { Update } from '../../protocol/messages.ts';
import type { BlobScope } from '../../storage/blob-collector.ts';
import { BLOB_CODES } from '../../storage/errors.ts';
import type { RunContext } from '../context.ts';
import { checkPayload } from '../merge/arithmetic.ts';
import type { Refusal } from './header-checks.ts';
import { PayloadFetches } from './payload-fetches.ts';

/**
 * Maximum number of payloads that are checked at once, because each payload is in memory as a whole (up to 64 MiB). A
 * check never waits for a peer, so no peer can delay the checks of other peers.
 */
export const PAYLOADS_AT_ONCE = 4;
/**
 * Codes of fetch errors whose cause is the coordinator's own disk. They are no reason to refuse the author's update.
 */
const OWN_FAULTS: readonly string[] = ['STORE_FULL', 'WRITE_FAILED', 'HASH_FAILED'];

/** Fetches and checks the payloads of updates. */
export class PayloadIntake {
  readonly #context: RunContext;
  readonly #checks = new Permits(PAYLOADS_AT_ONCE);
  readonly #fetches: PayloadFetches;

  constructor(deps: { context: RunContext }) {
    this.#context = deps.context;
    this.#fetches = new PayloadFetches(deps.context.deps);
  }

  /**
   * Fetches an update's payload if it is not inline, checks that it decodes, and stores it as a durable blob.
   * @param scope protects the blob from garbage collection
   * @returns null, or the reason for refusing the payload
   * @throws SwarmError STORE_FULL, WRITE_FAILED, HASH_FAILED if the coordinator's own disk fails
   */
  async take(author: string, update: Update, scope: BlobScope): Promise<Refusal | null> {
    await scope.hold(update.payload.digest);
    const missing = update.inline === null ? await this.#fetchOwn(author, update.payload) : null;
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
      const changes = await checkPayload(payload, { layout, preset: update.preset }, { signal });
      if (!changes) return { code: 'bad-payload', detail: 'all values of the update are zero' };
      await scope.put(payload, digest);
      deps.failpoint('update-blob');
      return null;
    } catch (error) {
      if (!isSwarmError(error)) throw error;
      // The stored blob differs from the announced payload, or it has been deleted.
      if (BLOB_CODES.has(error.code)) return fetchRefusal(error.code, error.message);
      if (!PAYLOAD_CODES.has(error.code)) throw error;
      deps.log.debug({ peer: author, code: error.code, bytes: size }, 'payload-refused');
      return payloadRefusal(error.code, error.message);
    } finally {
      release();
    }
  }

  /**
   * Fetches an announced payload from its author, even if the blob store has the same bytes from another peer.
   * Otherwise, an author that knows only the digest of a blob could pass the blob off as its own work, and could find
   * out whether the store has it.
   */
  async #fetchOwn(author: string, ref: { digest: string; size: number }): Promise<Refusal | null> {
    const { job, signal, deps } = this.#context;
    const again = !deps.store.updates.hasSent(job, author, ref.digest);
    try {
      await this.#fetches.fetch(author, ref, { again, signal });
      return null;
    } catch (error) {
      signal.throwIfAborted();
      if (!isSwarmError(error) || OWN_FAULTS.includes(error.code)) throw error;
      return fetchRefusal(error.code, error.message);
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
