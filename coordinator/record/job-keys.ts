import type { Logger } from '../../common/logger.ts';
import { encryptHead, JOB_KEY_BYTES } from '../../protocol/job-key.ts';
import type { JobKeysMessage } from '../../protocol/job-keys-message.ts';
import { NONCE_BYTES, SEALING_KEY_BYTES, type SealContext, SealingKey } from '../../protocol/sealing.ts';
import type { Store, StoredKeys } from '../store/store.ts';

interface Deps {
  readonly store: Store;
  readonly log: Logger;
  /** Returns random bytes that no peer can predict. */
  readonly randomBytes: (count: number) => Uint8Array;
}

/**
 * The two keys of a job:
 * - Nodes seal their updates and heartbeats with a public key of the job, which never changes.
 * - The coordinator encrypts heads with the job key. It replaces this key when a member is removed or an invite is
 *   revoked, so that a removed member cannot read later heads.
 */
export class JobKeys {
  readonly #job: string;
  readonly #deps: Deps;
  readonly #sealing: SealingKey;
  #stored: StoredKeys;

  /** Reads the keys. Makes and records keys for a job without keys: a new job, or a job of an older version. */
  constructor(deps: { job: string; deps: Deps }) {
    this.#job = deps.job;
    this.#deps = deps.deps;
    const { store, randomBytes } = this.#deps;
    const known = store.keys.find(this.#job);
    this.#stored = known ?? {
      seal: randomBytes(SEALING_KEY_BYTES),
      id: 1,
      key: randomBytes(JOB_KEY_BYTES),
    };
    if (known === null) this.#record(this.#stored);
    this.#sealing = new SealingKey(this.#stored.seal);
  }

  /** Returns the message with the job's keys, for a peer that may read the job. */
  message(): JobKeysMessage {
    const { id, key } = this.#stored;
    return { seal: this.#sealing.publicKey, id, key };
  }

  /** Encrypts a signed head under the newest key. */
  encrypt(head: Uint8Array): Uint8Array {
    return encryptHead(head, this.#job, this.#stored, this.#deps.randomBytes(NONCE_BYTES));
  }

  /** Decrypts a sealed message of a node. @throws SwarmError SEAL_INVALID */
  open(sealed: Uint8Array, kind: SealContext['kind'], author: string): Uint8Array {
    return this.#sealing.open(sealed, { kind, job: this.#job, author });
  }

  /** Replaces the key that encrypts the heads of the job. The new key is durable when this method returns. */
  rotate(): void {
    const { seal, id } = this.#stored;
    this.#record({ seal, id: id + 1, key: this.#deps.randomBytes(JOB_KEY_BYTES) });
    this.#deps.log.info({ job: this.#job, id: this.#stored.id }, 'job-key-changed');
  }

  #record(keys: StoredKeys): void {
    const { store } = this.#deps;
    store.transaction(() => store.keys.put(this.#job, keys));
    this.#stored = keys;
  }
}
