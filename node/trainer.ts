import type { AdapterLayout } from '../lora/adapter/layout.ts';
import type { Row } from '../lora/data/row.ts';
import type { AdamWState } from '../lora/train/adamw.ts';
import type { JobPosition, TrainProgress, TrainResult } from '../lora/train/trainer.ts';
import type { Manifest } from '../protocol/manifest.ts';

/** One round's work for a trainer. */
export interface TrainTask {
  /** In layout order; not changed. */
  readonly adapter: readonly Float32Array[];
  readonly rows: readonly Row[];
  readonly steps: number;
  /** Moments to go on with, whatever the trainer still has in memory from a round that was given up. */
  readonly optimizer: AdamWState;
  /** Where the job stands, for the learning rate. @default where the moments stand */
  readonly position?: JobPosition;
}

export interface TrainedRound {
  readonly adapter: readonly Float32Array[];
  readonly optimizer: AdamWState;
  readonly result: TrainResult;
}

/** What a contributor needs of a device: real over a supervised process, fake in the simulation. */
export interface NodeTrainer {
  /** Engine and device, for people; empty before it is known. */
  readonly engine: string;
  /** Why it is this engine, or what a device that failed has changed; null before it is known. For people. */
  readonly note: string | null;
  /**
   * Gets ready for a job whose base files are in the blob store. Asked again for the same job it answers at once.
   * @throws SwarmError when the base does not fit its manifest or cannot be trained here
   */
  prepare(manifest: Manifest, options: { signal: AbortSignal }): Promise<AdapterLayout>;
  /** Ends what it has running for other base models than these, and deletes what it has made of them. */
  keepBases(bases: ReadonlySet<string>): Promise<void>;
  /** @throws SwarmError TRAINER_DIED and whatever training ran into; the signal's reason when it aborts */
  train(
    task: TrainTask,
    options: { signal: AbortSignal; onProgress: (progress: TrainProgress) => void },
  ): Promise<TrainedRound>;
  stop(): Promise<void>;
}
