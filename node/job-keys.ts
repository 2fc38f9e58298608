import { decryptHead, keyIdOf } from '../protocol/job-key.ts';
import type { JobKeysMessage } from '../protocol/rpc.ts';
import { SEALING_KEY_BYTES, type SealContext, seal } from '../protocol/sealing.ts';

/** The keys of a job, as the coordinator sent them last. */
export class JobKeys {
  readonly #job: string;
  #keys: JobKeysMessage;

  constructor(job: string, keys: JobKeysMessage) {
    this.#job = job;
    this.#keys = keys;
  }

  /** Takes the keys of a newer answer. */
  learn(keys: JobKeysMessage): void {
    this.#keys = keys;
  }

  /**
   * Decrypts a head of the topic `heads`. Returns `outdated` for a head under an earlier key, which is older than the newest
   * head. Returns `unknown` for a head that the node needs newer keys for.
   * @throws SwarmError HEAD_UNREADABLE if the head is damaged, or if the coordinator has lost the keys and made others
   */
  read(bytes: Uint8Array): Uint8Array | 'outdated' | 'unknown' {
    const id = keyIdOf(bytes);
    if (id !== null && id > this.#keys.id) return 'unknown';
    if (id !== null && id < this.#keys.id) return 'outdated';
    return decryptHead(bytes, this.#job, this.#keys);
  }

  /**
   * Seals a signed message to the coordinator.
   * @param randomBytes returns bytes that no peer can predict
   */
  seal(
    message: Uint8Array,
    about: Pick<SealContext, 'kind' | 'author'>,
    randomBytes: (count: number) => Uint8Array,
  ): Uint8Array {
    return seal(message, this.#keys.seal, { ...about, job: this.#job }, randomBytes(SEALING_KEY_BYTES));
  }
}
