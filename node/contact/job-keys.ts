import {
  type BlobProof,
  decryptHead,
  keyIdOf,
  proveMembership,
  provesMembership,
} from '../../protocol/access/job-key.ts';
import type { JobKeysMessage } from '../../protocol/access/job-keys-message.ts';
import { SEALING_KEY_BYTES, type SealContext, seal } from '../../protocol/access/sealing.ts';

/** The keys of a job, from the newest answer of the coordinator. */
export class JobKeys {
  readonly #job: string;
  readonly #self: string;
  #keys: JobKeysMessage;

  /** @param options.self peer id of this node */
  constructor({ job, self }: { job: string; self: string }, keys: JobKeysMessage) {
    this.#job = job;
    this.#self = self;
    this.#keys = keys;
  }

  /** Replaces the keys with the keys in a newer answer of the coordinator. */
  learn(keys: JobKeysMessage): void {
    this.#keys = keys;
  }

  /**
   * Decrypts a head from the gossip topic `heads`. Returns `outdated` if an earlier key encrypted it, because a newer
   * head must then exist. Returns `unknown` if a newer key encrypted it, which this node does not have yet.
   * @throws SwarmError HEAD_UNREADABLE if the head is damaged, or if the coordinator has lost its keys and made new
   *   ones
   */
  read(bytes: Uint8Array): Uint8Array | 'outdated' | 'unknown' {
    const id = keyIdOf(bytes);
    if (id !== null && id > this.#keys.id) return 'unknown';
    if (id !== null && id < this.#keys.id) return 'outdated';
    return decryptHead(bytes, this.#job, this.#keys);
  }

  /** Returns the proof with which this node requests blobs from another node. */
  prove(holder: string): BlobProof {
    return proveMembership(this.#job, this.#keys, { requester: this.#self, holder });
  }

  /** Returns whether a peer is admitted to the job. The proof must show that the peer has the newest key. */
  admits(peer: string, proof: BlobProof | null): boolean {
    const ends = { requester: peer, holder: this.#self };
    return proof !== null && provesMembership(proof, this.#job, this.#keys, ends);
  }

  /**
   * Seals a signed message to the coordinator.
   * @param randomBytes returns bytes that no peer can predict
   */
  seal(
    message: Uint8Array,
    kind: SealContext['kind'],
    randomBytes: (count: number) => Uint8Array,
  ): Uint8Array {
    const context = { kind, job: this.#job, author: this.#self };
    return seal(message, this.#keys.seal, context, randomBytes(SEALING_KEY_BYTES));
  }
}
