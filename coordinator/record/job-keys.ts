import { hkdfSync } from 'node:crypto';
import type { Logger } from '../../common/logger.ts';
import { decryptHead, encryptHead, JOB_KEY_BYTES, type JobKey } from '../../protocol/access/job-key.ts';
import type { JobKeysMessage } from '../../protocol/access/job-keys-message.ts';
import {
  NONCE_BYTES,
  SEALING_KEY_BYTES,
  type SealContext,
  SealingKey,
} from '../../protocol/access/sealing.ts';
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

  /**
   * Number of removals and lifted bans so far. Each of them replaces the job key, so the number follows from the id of the
   * key.
   */
  get removals(): number {
    return this.#stored.id - 1;
  }

  /**
   * Encrypts bytes so that only this coordinator can read them, even after it was restored from a backup of
   * this job.
   */
  encryptOwn(bytes: Uint8Array): Uint8Array {
    return encryptHead(bytes, this.#job, this.#own(), this.#deps.randomBytes(NONCE_BYTES));
  }

  /** Decrypts bytes. @throws SwarmError HEAD_UNREADABLE if this coordinator has not encrypted the bytes */
  decryptOwn(bytes: Uint8Array): Uint8Array {
    return decryptHead(bytes, this.#job, this.#own());
  }

  /** A key that is derived from the private key of the job, which no node has. */
  #own(): JobKey {
    const key = hkdfSync('sha256', this.#stored.seal, '', 'lora-swarm/2/removals', JOB_KEY_BYTES);
    return { id: 1, key: new Uint8Array(key) };
  }

  /**
   * Replaces the key that encrypts the heads of the job. The new key is durable when this method returns.
   * @param options.after number of removals that the nodes know of. The new value of `removals` exceeds this number and
   *   the old value
   */
  rotate({ after = 0 }: { after?: number } = {}): void {
    const { seal } = this.#stored;
    const id = Math.max(this.removals, after) + 2;
    this.#record({ seal, id, key: this.#deps.randomBytes(JOB_KEY_BYTES) });
    this.#deps.log.info({ job: this.#job, id: this.#stored.id }, 'job-key-changed');
  }

  #record(keys: StoredKeys): void {
    const { store } = this.#deps;
    store.transaction(() => store.keys.put(this.#job, keys));
    this.#stored = keys;
  }
}
