/** The methods of a trainer process, and the options to start one. */
import type { AdapterLayout } from '../../adapter/layout.ts';
import type { Row } from '../../data/row.ts';
import type { ResolvedCompute } from '../compute.ts';
import type { GradientRequest, GradientSums } from '../data-parallel.ts';
import type { AdamWState } from '../optimizer/adamw.ts';
import type { RowLoss } from '../step.ts';
import type { JobPosition, TrainerSettings, TrainProgress, TrainResult } from '../trainer.ts';

export interface TrainerOptions extends TrainerSettings {
  /** Folder of the base model, in Hugging Face layout. */
  modelDir: string;
  /** Folder where converted weights are kept between runs. */
  cacheDir: string;
  /**
   * Settings for computing. Each device gets its own process. `threads` should leave one hardware thread free for the
   * parent process.
   */
  compute: ResolvedCompute;
}

/** Settings of a job that may change while a trainer process keeps its base. */
export interface JobOfTrainer extends Pick<TrainerOptions, 'lora' | 'training'> {
  readonly checkpointing: boolean;
}

/** State of training after some or all steps of a request. */
export interface TrainedPart {
  adapter: Float32Array[];
  optimizer: AdamWState;
  /** Number of steps made. */
  steps: number;
  /** Number of rows used. */
  rows: number;
  /**
   * Whether training went on to the end of the request, because all steps were made or the rows ran out. false after
   * an abort.
   */
  isComplete: boolean;
}

/** Progress of a round, and the processor time and memory of the trainer process. */
export interface ProcessProgress extends TrainProgress {
  readonly use: ProcessUse;
}

/** Processor time of a process since its start, in seconds, and its memory now. */
export interface ProcessUse {
  readonly cpuSeconds: number;
  readonly residentBytes: number;
}

/**
 * Methods of a trainer process. The process serves calls one after the other (see common/workers/calls.ts).
 */
export type TrainerMethods = {
  start: { request: TrainerOptions; reply: AdapterLayout };
  /** Switches to another job on the base that the process has loaded. Compiled graphs stay if the job can use them. */
  turnTo: { request: JobOfTrainer; reply: AdapterLayout };
  train: {
    request: {
      adapter: readonly Float32Array[];
      rows: readonly Row[];
      steps: number;
      /** Optimiser state to start from; null to continue with the state in the trainer's memory. */
      optimizer: AdamWState | null;
      position: JobPosition | null;
    };
    reply: TrainResult & { adapter: Float32Array[] };
    progress: ProcessProgress;
  };
  /**
   * Like `train`, but an abort is not an error. After an abort, the reply has the state after the last complete step.
   */
  trainPart: {
    request: {
      adapter: readonly Float32Array[];
      rows: readonly Row[];
      steps: number;
      optimizer: AdamWState;
      position: JobPosition;
    };
    reply: TrainedPart;
  };
  gradients: { request: GradientRequest; reply: GradientSums };
  /** Reports progress before each micro-batch. */
  evaluate: {
    request: { adapter: readonly Float32Array[]; rows: readonly Row[] };
    reply: RowLoss[];
    progress: null;
  };
  /** Gradient of the mean loss over rows, as `Trainer.lossGradient` returns it. Reports progress as `evaluate` does. */
  lossGradient: {
    request: { adapter: readonly Float32Array[]; rows: readonly Row[] };
    reply: Float32Array[];
    progress: null;
  };
  snapshot: {
    request: { adapter: boolean };
    reply: { optimizer: AdamWState; adapter: Float32Array[] | null };
  };
  /** Releases the engine; the process ends after the reply. */
  stop: { request: null; reply: null };
};
