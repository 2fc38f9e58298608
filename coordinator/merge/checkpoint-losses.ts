import { isSwarmError } from '../../common/errors.ts';
import { withDeadline } from '../../common/time/deadline.ts';
import { decodeAdapter } from '../../lora/adapter/codec.ts';
import type { RowLoss } from '../../lora/train/step.ts';
import { ADAPTER_BYTES } from '../../protocol/limits.ts';
import type { Checkpoint } from '../../protocol/messages.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import {
  type CurrentCheckpoint,
  EVALUATION_TIMEOUT_MS,
  type EvaluateOptions,
  type RunContext,
} from '../context.ts';

/** The lowest checkpoint of a job, if it is not the parent of the merge. */
export interface LowestCheckpoint {
  readonly checkpoint: Checkpoint;
  readonly losses: readonly RowLoss[];
}

export interface CheckpointLossesDeps {
  readonly context: RunContext;
  /** Called when the validator continues with other settings or on another device, because its device failed. */
  readonly onFallback: EvaluateOptions['onFallback'];
}

/**
 * Held-out losses with which the gate compares merges: the losses of the newest checkpoint, of the lowest checkpoint,
 * and of a candidate that may become the next checkpoint. After a restart, they are measured again, because the device
 * may have changed.
 */
export class CheckpointLosses {
  readonly #context: RunContext;
  /** Called when the validator continues with other settings or on another device, because its device failed. */
  readonly onFallback: EvaluateOptions['onFallback'];
  /** The losses of checkpoints, by the round of each checkpoint. */
  readonly #losses = new Map<number, readonly RowLoss[]>();

  constructor({ context, onFallback }: CheckpointLossesDeps) {
    this.#context = context;
    this.onFallback = (because) => {
      // Losses from before the fallback cannot be compared with later losses, so they are measured again.
      this.#losses.clear();
      onFallback(because);
    };
  }

  /** Keeps the losses of the checkpoint with which a round is about to end. */
  keep(round: number, losses: readonly RowLoss[]): void {
    this.#losses.set(round, losses);
  }

  /**
   * Returns the checkpoint with the lowest loss since the newest roll-back. Returns null if the parent has the same
   * adapter as this checkpoint, or if the adapter of this checkpoint is missing or damaged on disk. If the result is
   * null, the gate compares merges with their parent alone.
   */
  async lowestBefore(parent: CurrentCheckpoint): Promise<LowestCheckpoint | null> {
    const { job, deps } = this.#context;
    const stored = deps.store.rounds.lowestLoss(job);
    for (const round of this.#losses.keys()) {
      if (round !== parent.checkpoint.round && round !== stored?.round) this.#losses.delete(round);
    }
    if (stored === null) return null;
    const checkpoint = verifyMessage('checkpoint', stored.envelope).message;
    if (checkpoint.adapter.digest === parent.checkpoint.adapter.digest) return null;
    try {
      return { checkpoint, losses: await this.of(checkpoint) };
    } catch (error) {
      if (!isSwarmError(error, 'BLOB_MISSING') && !isSwarmError(error, 'BLOB_CORRUPT')) throw error;
      deps.log.warn({ round: stored.round, error }, 'lowest-checkpoint-lost');
      return null;
    }
  }

  /** Returns the losses of a checkpoint. Measures them if they are not known. */
  async of({ round, adapter }: Checkpoint): Promise<readonly RowLoss[]> {
    const losses = this.#losses.get(round) ?? (await this.#evaluateStored(adapter.digest));
    this.#losses.set(round, losses);
    return losses;
  }

  /** Measures the losses of an adapter. */
  evaluate(adapter: readonly Float32Array[]): Promise<readonly RowLoss[]> {
    const { job, manifest, deps, signal } = this.#context;
    const what = 'the evaluation of an adapter';
    return withDeadline({ clock: deps.clock, ms: EVALUATION_TIMEOUT_MS, signal, what }, (inner) =>
      deps.validator.evaluate({ job, manifest }, adapter, { signal: inner, onFallback: this.onFallback }),
    );
  }

  async #evaluateStored(digest: string): Promise<readonly RowLoss[]> {
    const { deps, layout } = this.#context;
    const bytes = await deps.blobs.get(digest, { maxBytes: ADAPTER_BYTES });
    return this.evaluate(decodeAdapter(bytes, layout));
  }
}
