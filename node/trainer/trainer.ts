import type { AdapterLayout } from '../../lora/adapter/layout.ts';
import type { Row } from '../../lora/data/row.ts';
import type { AdamWState } from '../../lora/train/optimizer/adamw.ts';
import type { RowLoss } from '../../lora/train/step.ts';
import type { JobPosition, TrainProgress, TrainResult } from '../../lora/train/trainer.ts';
import type { LossGradient } from '../../lora/update/score.ts';
import type { Manifest } from '../../protocol/job/manifest.ts';

/** One round for a trainer to train. */
export interface TrainTask {
  /** Tensors of the adapter, in the order of the layout. The trainer does not modify them. */
  readonly adapter: readonly Float32Array[];
  readonly rows: readonly Row[];
  readonly steps: number;
  /**
   * Moments to start from. The trainer does not continue from its own moments, because they may come from an aborted
   * round.
   */
  readonly optimizer: AdamWState;
  /** The job's position in the learning-rate schedule. @default the step count of `optimizer` */
  readonly position?: JobPosition;
}

export interface TrainedRound {
  readonly adapter: readonly Float32Array[];
  readonly optimizer: AdamWState;
  readonly result: TrainResult;
}

/**
 * Trains the rounds of a node. `TrainingProcess` does this in a child process. The simulation has a simpler trainer.
 */
export interface NodeTrainer {
  /** Human-readable name of the engine and its device; empty until they are chosen. */
  readonly engine: string;
  /**
   * Human-readable reason for the choice of this engine, or description of the fallback after a device failed. Null
   * until the engine is chosen.
   */
  readonly note: string | null;
  /** Number of restarts of the trainer process. */
  readonly restarts: number;
  /**
   * Prepares a job whose base files are in the blob store. Returns immediately if that job is already prepared.
   * @throws SwarmError if the base does not fit its manifest or cannot be trained on this machine
   */
  prepare(manifest: Manifest, options: { signal: AbortSignal }): Promise<AdapterLayout>;
  /**
   * Deletes the files that were derived from bases outside `bases`. First ends the trainer processes that
   * have loaded such a base.
   */
  keepBases(bases: ReadonlySet<string>): Promise<void>;
  /**
   * Ends the trainer processes that have loaded a base outside `bases`, and then the least recently used ones until the
   * rest fits into the memory limit of the owner. Keeps all files, because jobs may need them again.
   */
  releaseMemory(bases: ReadonlySet<string>): Promise<void>;
  /** @throws SwarmError TRAINER_DIED or another error of training, or the signal's reason */
  train(
    task: TrainTask,
    options: { signal: AbortSignal; onProgress: (progress: TrainProgress) => void },
  ): Promise<TrainedRound>;
  stop(): Promise<void>;
}

/** Computes the gradients and losses from which updates are scored. Uses the job that was prepared last. */
export interface ScoreTrainer {
  /**
   * Returns the gradient of the mean loss over rows with respect to the adapter, in nats per supervised token.
   * @param adapter in layout order
   * @throws SwarmError TRAINER_DIED or another error of training, or the signal's reason
   */
  lossGradient(
    adapter: readonly Float32Array[],
    rows: readonly Row[],
    options: { signal: AbortSignal },
  ): Promise<LossGradient>;
  /** Returns the losses of an adapter on rows. @throws the errors of `lossGradient` */
  losses(
    adapter: readonly Float32Array[],
    rows: readonly Row[],
    options: { signal: AbortSignal },
  ): Promise<readonly RowLoss[]>;
}
