import { lacksPayload, restoreEnvelope } from '../../protocol/evidence.ts';
import type { Update } from '../../protocol/messages.ts';
import type { RunContext } from '../context.ts';
import type { StoredReceipt, StoredUpdate } from '../store/store.ts';
import { type Checking, updateKey } from './checking.ts';
import type { UpdateRecorder } from './update-recorder.ts';

export interface ConflictsDeps {
  readonly context: RunContext;
  readonly recorder: UpdateRecorder;
}

/** Records conflicts. A conflict is a second, different update of an author for the same round. */
export class Conflicts {
  readonly #context: RunContext;
  readonly #recorder: UpdateRecorder;
  /** Keys (see `updateKey`) of conflicts that are being recorded. */
  readonly #excluding = new Set<string>();

  constructor({ context, recorder }: ConflictsDeps) {
    this.#context = context;
    this.#recorder = recorder;
  }

  /** Returns whether an author has a conflict in a round. */
  has(round: number, author: string): boolean {
    const { job, deps } = this.#context;
    return this.#excluding.has(updateKey(round, author)) || deps.store.conflicts.has(job, round, author);
  }

  /**
   * Records that an author signed two different updates for a round.
   * @param other the update that arrived first
   */
  async record(
    author: string,
    update: Update,
    envelope: Uint8Array,
    other: Checking | StoredUpdate,
  ): Promise<StoredReceipt> {
    const { round } = update;
    const { digest, evidence } = other;
    this.#excluding.add(updateKey(round, author));
    try {
      const first = 'envelope' in other ? other.envelope : await this.#restore(other);
      this.#context.signal.throwIfAborted();
      return this.#recorder.exclude({
        round,
        peer: author,
        first: { digest, envelope: first, evidence },
        second: { update, envelope },
      });
    } finally {
      this.#excluding.delete(updateKey(round, author));
    }
  }

  /** Restores the signed message of a recorded update; null if the payload of the update has been deleted. */
  async #restore({ digest, size, evidence }: StoredUpdate): Promise<Uint8Array | null> {
    if (!lacksPayload(evidence)) return restoreEnvelope(evidence, new Uint8Array());
    try {
      return restoreEnvelope(evidence, await this.#context.deps.blobs.get(digest, { maxBytes: size }));
    } catch (error) {
      this.#context.deps.log.warn({ digest, error }, 'proof-without-payload');
      return null;
    }
  }
}
