/**
 * What the daemon and its trainer process say to each other, over Node's IPC channel with structured clones:
 * typed arrays travel as they are. Both ends are this program; the channel is not reachable from the network.
 */
import type { ErrorJson } from '../../common/errors.ts';
import type { AdapterLayout } from '../adapter/layout.ts';
import type { Row } from '../data/row.ts';
import type { Device, EngineName } from '../engines/names.ts';
import type { BaseBits } from '../models/base-bits.ts';
import type { AdamWState } from './adamw.ts';
import type { GradientRequest, GradientSums } from './data-parallel.ts';
import type { RowLoss } from './step.ts';
import type { JobPosition, TrainerSettings, TrainProgress, TrainResult } from './trainer.ts';

export interface TrainerOptions extends TrainerSettings {
  /** Base model, a Hugging Face folder. */
  modelDir: string;
  /** Where converted weights are kept between runs. */
  cacheDir: string;
  /** @default 'onnx-cpu' */
  engine?: EngineName;
  /** Which of several devices of the engine; see EngineOptions. @default 0 */
  device?: number;
  /** Devices that take part of each batch, each in a process of its own. @default none */
  alongside?: readonly Device[];
  /** Bits of a weight in the base's linear modules. @default 32 */
  baseBits?: BaseBits;
  /** Threads of the engine. Leave one core's worth of room for the daemon. */
  threads: number;
}

/** Every request has a number; the reply carries it. Requests are served one after the other. */
export type Request =
  | { type: 'start'; id: number; options: TrainerOptions }
  | {
      type: 'train';
      id: number;
      adapter: readonly Float32Array[];
      rows: readonly Row[];
      steps: number;
      /** null: go on with the moments in memory. */
      optimizer: AdamWState | null;
      position: JobPosition | null;
    }
  | ({ type: 'gradients'; id: number } & GradientRequest)
  | { type: 'evaluate'; id: number; adapter: readonly Float32Array[]; rows: readonly Row[] }
  | { type: 'snapshot'; id: number; adapter: boolean }
  | { type: 'stop'; id: number };

/** Not queued: gives up the request with that number, running or waiting. */
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
  /** For people: something has changed about how it trains. */
  | { type: 'notice'; text: string };
