/**
 * Messages between a process and its trainer process, over Node's IPC channel with structured clones: typed arrays
 * travel as they are. Both ends are this program; the channel cannot be reached from the network.
 */
import type { ErrorJson } from '../../common/errors.ts';
import type { AdapterLayout } from '../adapter/layout.ts';
import type { Row } from '../data/row.ts';
import type { AdamWState } from './adamw.ts';
import type { ResolvedCompute } from './compute.ts';
import type { GradientRequest, GradientSums } from './data-parallel.ts';
import type { RowLoss } from './step.ts';
import type { JobPosition, TrainerSettings, TrainProgress, TrainResult } from './trainer.ts';

export interface TrainerOptions extends TrainerSettings {
  /** Folder of the base model, in Hugging Face layout. */
  modelDir: string;
  /** Folder where converted weights are kept between runs. */
  cacheDir: string;
  /** Each device gets a process of its own. Leave one thread free for the parent process. */
  compute: ResolvedCompute;
}

/** Every request has a number, which its reply repeats. Requests are served one after the other. */
export type Request =
  | { type: 'start'; id: number; options: TrainerOptions }
  | {
      type: 'train';
      id: number;
      adapter: readonly Float32Array[];
      rows: readonly Row[];
      steps: number;
      /** null: continue with the moments in memory. */
      optimizer: AdamWState | null;
      position: JobPosition | null;
    }
  | ({ type: 'gradients'; id: number } & GradientRequest)
  | { type: 'evaluate'; id: number; adapter: readonly Float32Array[]; rows: readonly Row[] }
  | { type: 'snapshot'; id: number; adapter: boolean }
  | { type: 'stop'; id: number };

/** Aborts the request with that number, running or waiting. It is not queued. */
export interface Abort {
  type: 'abort';
  id: number;
}

export type Reply =
  | { type: 'ready'; id: number; layout: AdapterLayout; parameters: number }
  | { type: 'trained'; id: number; result: TrainResult; adapter: Float32Array[] }
  | { type: 'gradients'; id: number; sums: GradientSums }
  | { type: 'evaluated'; id: number; losses: RowLoss[] }
  | { type: 'snapshot'; id: number; optimizer: AdamWState; adapter: Float32Array[] | null }
  | { type: 'stopped'; id: number }
  | { type: 'failed'; id: number; error: ErrorJson };

export type Event =
  | { type: 'progress'; id: number; progress: TrainProgress }
  /** A change in how the trainer works, as a sentence for the user. */
  | { type: 'notice'; text: string };
