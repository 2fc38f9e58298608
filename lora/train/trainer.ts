/** Trains one adapter on one device, in this process. `TrainerProcess` does the same in a child process. */

import { nextTurn } from '../../common/abort-reason.ts';
import { type AdapterLayout, adapterLayout } from '../adapter/layout.ts';
import { checkTokens, type Row } from '../data/row.ts';
import type { Engine, WeightFile } from '../engines/engine.ts';
import { elementCount } from '../graph/shapes.ts';
import type { BaseModel } from '../models/base/base-model.ts';
import { batches } from './batches.ts';
import {
  DataParallel,
  type DataParallelOptions,
  type DataParallelWorker,
  type GradientRequest,
  type GradientSums,
} from './data-parallel.ts';
import { trainError } from './errors.ts';
import { AdamW, type AdamWOptions, type AdamWState } from './optimizer/adamw.ts';
import { LossScale, requireLossScale } from './optimizer/loss-scale.ts';
import { parameterGroupOf } from './optimizer/parameter-groups.ts';
import { changedSchedule, learningRateAt, type ScheduleChange } from './optimizer/schedule.ts';
import { StepTally, type TrainProgress, type TrainResult } from './progress.ts';
import { lossAndGradients, type RowLoss, rowLosses, seedFeed } from './step.ts';
import { graphsKey, TrainerGraphs, type TrainerSettings } from './trainer-graphs.ts';

export type { TrainProgress, TrainResult } from './progress.ts';
export type { TrainerSettings } from './trainer-graphs.ts';

export interface TrainerDeps {
  model: BaseModel;
  engine: Engine;
  /** The base's weights, as `prepareWeights` returns them. */
  weights: WeightFile;
  /** Trainers on other devices, with the same base and settings. @default none */
  workers?: readonly DataParallelWorker[];
  /** Called when a worker has failed. Training continues without that worker. */
  onLost?: DataParallelOptions['onLost'];
}

export interface TrainRequest {
  /** Rows, which are read in order, `batchSize` per optimiser step. When the rows run out, training ends early. */
  rows: AsyncIterable<Row> | Iterable<Row>;
  /** Maximum number of optimiser steps to make. */
  steps: number;
  /**
   * Position of the requested steps in the job. @default the number of steps that the optimiser has made so
   * far
   */
  position?: JobPosition;
  onProgress?: (progress: TrainProgress) => void;
  signal?: AbortSignal;
  /** Called before each step, which begins when the promise resolves. @default steps follow each other at once */
  beforeStep?: () => Promise<void>;
}

/**
 * Progress of a job. The learning rate follows the job's progress, not the steps of one node. A node that joined late,
 * or makes fewer steps per round, therefore uses the same rate as the other nodes.
 */
export interface JobPosition {
  /** Number of optimiser steps of the job before this round: a whole number. */
  readonly start: number;
  /** Number of steps that earlier requests have made in this round. @default 0 */
  readonly done?: number;
  /**
   * The number of steps by which the job's progress grows with each step of this node. It is 1, or more if
   * the node makes fewer steps in a round than planned.
   */
  readonly perStep: number;
  /**
   * Number of steps to add to the optimiser's own step count for the warm-up of the learning rate. An audit
   * needs this, because it starts with a new optimiser, although the node whose work it repeats had already
   * made steps. @default 0
   */
  readonly before?: number;
  /** Changes of the learning rate since the job began. @default the settings of the trainer */
  readonly schedule?: ScheduleChange;
}

/** Options for passes over rows that make no optimiser step. */
export interface PassOptions {
  signal?: AbortSignal | undefined;
  /** Called before each micro-batch. */
  onProgress?: (() => void) | undefined;
}

export class Trainer {
  /** Names and shapes of the adapter's tensors. All lists of tensors have this order. */
  readonly layout: AdapterLayout;
  #settings: TrainerSettings;
  readonly #model: BaseModel;
  readonly #optimizer: AdamW;
  readonly #values: Float32Array[];
  /** The tensors of `#values` by their names. */
  readonly #named: ReadonlyMap<string, Float32Array>;
  readonly #dataParallel: DataParallel;
  readonly #lossScale: LossScale | null;
  readonly #graphs: TrainerGraphs;

  constructor(settings: TrainerSettings, deps: TrainerDeps) {
    this.#settings = settings;
    this.#model = deps.model;
    this.layout = adapterLayout(deps.model, settings.lora);
    this.#optimizer = new AdamW(optimizerOptions(this.layout, settings));
    this.#values = this.layout.map(({ shape }) => new Float32Array(elementCount(shape)));
    this.#lossScale = settings.compute.precision === 'float16' ? new LossScale() : null;
    this.#named = new Map(this.layout.map(({ name }, i) => [name, this.#values[i]!]));
    this.#graphs = new TrainerGraphs(settings, { ...deps, values: this.#named, lossScale: this.#lossScale });
    const { workers = [], onLost = () => {} } = deps;
    this.#dataParallel = new DataParallel(workers, { microBatch: this.#graphs.size.batch, onLost });
  }

  /**
   * Switches to another job on the same base. The compiled graphs and the adapter's tensors stay. The optimiser starts
   * with zeros. The caller then sets the adapter and the moments of the job.
   * @returns false if the job needs other graphs; the trainer is then unchanged
   */
  turnTo(settings: TrainerSettings): boolean {
    if (graphsKey(settings) !== graphsKey(this.#settings)) return false;
    this.#settings = settings;
    this.#optimizer.restart(optimizerOptions(this.layout, settings));
    if (this.#lossScale !== null) this.#lossScale.state = new LossScale().state;
    return true;
  }

  /** Copies `tensors` into the adapter. @throws SwarmError ADAPTER_SHAPE when counts or sizes differ from `layout` */
  setParameters(tensors: readonly Float32Array[]): void {
    const fits =
      tensors.length === this.#values.length && tensors.every((t, i) => t.length === this.#values[i]!.length);
    if (!fits) {
      throw trainError(
        'ADAPTER_SHAPE',
        'the tensors of the adapter differ from those that these settings give',
        { tensors: tensors.length, expected: this.#values.length },
        { next: 'use an adapter that was made for this base with the same LoRA settings' },
      );
    }
    for (const [i, tensor] of tensors.entries()) this.#values[i]!.set(tensor);
  }

  /** Returns a copy of the adapter. */
  parameters(): Float32Array[] {
    return this.#values.map((tensor) => tensor.slice());
  }

  /**
   * Returns moments, step count and loss scale. A trainer that continues from this state and the same
   * parameters gives bit-identical results.
   */
  optimizerState(): AdamWState {
    const state = this.#optimizer.exportState();
    return this.#lossScale === null ? state : { ...state, lossScale: this.#lossScale.state };
  }

  /**
   * @throws SwarmError OPTIMIZER_STATE if the state belongs to other tensors or its loss scale is invalid; in this
   * case the optimiser does not change
   */
  setOptimizerState(state: AdamWState): void {
    const { lossScale = new LossScale().state } = state;
    if (this.#lossScale !== null) requireLossScale(lossScale);
    this.#optimizer.importState(state);
    if (this.#lossScale !== null) this.#lossScale.state = lossScale;
  }

  /**
   * Makes optimiser steps on the adapter. The event loop runs between two micro-batches, so that messages and aborts
   * are handled. An abort rejects with the signal's reason and keeps the adapter of the last complete step.
   */
  async train({ rows, steps, position, onProgress, signal, beforeStep }: TrainRequest): Promise<TrainResult> {
    const { training } = this.#settings;
    const { executables, gradients } = this.#graphs.training();
    const schedule = changedSchedule(training, position?.schedule);
    const tally = new StepTally(steps);
    let taken = 0;
    for await (const batch of batches(rows, training.batchSize, steps)) {
      this.#check(batch);
      if (taken === 0) {
        // Compiles before the clock starts, so that the measured speed does not include compilation.
        await executables.for(batch.slice(0, this.#graphs.size.batch));
        tally.start();
      }
      if (beforeStep !== undefined) await tally.apart(beforeStep);
      taken += batch.length;
      const step = this.#optimizer.steps;
      const made = (position?.done ?? 0) + tally.result.steps;
      // Random numbers depend on the job's step, not on the optimiser's. An audit repeats a node's round with a new
      // optimiser, and must draw the same numbers as the node.
      const drawn = position === undefined ? step : position.start + made;
      const { lossSum, tokens } = await this.#dataParallel.gradients(
        { adapter: this.#values, rows: batch, step: drawn },
        (some, first) => this.#sums(some, { step: drawn, first }, { signal }),
        signal,
      );
      if (tokens === 0) continue;
      const reached = position && position.start + made * position.perStep;
      const learningRate = learningRateAt(schedule, step + (position?.before ?? 0), reached);
      const gradientNorm = this.#optimizer.step(
        this.#values,
        this.layout.map(({ name }) => gradients.get(name) ?? null),
        { learningRate, gradientScale: 1 / tokens, clipNorm: training.clipNorm },
      );
      const progress = tally.add({ lossSum, tokens, rows: taken, learningRate, gradientNorm });
      onProgress?.(progress);
    }
    return tally.result;
  }

  /** Sums loss and gradients over a part of a batch, for the trainer that makes the step. */
  async gradients(
    request: GradientRequest,
    { signal }: { signal?: AbortSignal } = {},
  ): Promise<GradientSums> {
    this.setParameters(request.adapter);
    await this.#graphs.training().executables.for(request.rows.slice(0, this.#graphs.size.batch));
    const started = performance.now();
    const sums = await this.#sums(request.rows, request, { signal });
    return { ...sums, seconds: (performance.now() - started) / 1000 };
  }

  /** Returns the loss of every row with the current adapter. */
  async evaluate(rows: readonly Row[], options: PassOptions = {}): Promise<RowLoss[]> {
    this.#check(rows);
    return rowLosses(this.#graphs.evaluation(), rows, this.#named, this.#runOptions(options));
  }

  /**
   * Returns the gradient of the mean loss over rows with the current adapter, in nats per supervised token. The result
   * has one tensor per entry of the layout, with zeros for a tensor that is not trained.
   */
  async lossGradient(rows: readonly Row[], options: PassOptions = {}): Promise<Float32Array[]> {
    this.#check(rows);
    const { trained, executables } = this.#graphs.training();
    await executables.for(rows.slice(0, this.#graphs.size.batch));
    const { gradients, tokens } = await this.#sums(rows, { step: 0, first: 0 }, options);
    const sums = new Map([...trained.keys()].map((name, i) => [name, gradients[i]!]));
    return this.layout.map(
      ({ name }, i) =>
        sums.get(name)?.map((sum) => (tokens > 0 ? sum / tokens : 0)) ??
        new Float32Array(this.#values[i]!.length),
    );
  }

  dispose(): Promise<void> {
    return this.#graphs.dispose();
  }

  /**
   * Sums the loss and the gradients over rows. The next call overwrites the returned gradients. All sums are
   * zero if there are no rows.
   */
  async #sums(
    rows: readonly Row[],
    { step, first }: Pick<GradientRequest, 'step' | 'first'>,
    options: PassOptions,
  ): Promise<Omit<GradientSums, 'seconds'>> {
    const { executables, trained, frozen, gradients, random } = this.#graphs.training();
    const { seed } = this.#settings.training;
    const into = [...gradients.values()];
    if (rows.length === 0) for (const tensor of into) tensor.fill(0);
    const { lossSum, tokens } = await lossAndGradients(executables, rows, trained, into, {
      ...this.#runOptions(options),
      frozen,
      randomness: (microBatch, some) => (random ? seedFeed(seed, step, first + microBatch, some) : {}),
    });
    return { lossSum, tokens, gradients: into };
  }

  #check(rows: readonly Row[]): void {
    for (const row of rows) checkTokens(row, this.#model.config.vocabularySize);
  }

  #runOptions({ signal, onProgress }: PassOptions) {
    const { batch, length } = this.#graphs.size;
    const pause = () => {
      onProgress?.();
      return nextTurn(signal);
    };
    return { batch, length, pause };
  }
}

function optimizerOptions(layout: AdapterLayout, { training }: TrainerSettings): AdamWOptions {
  const { betas, epsilon, weightDecay } = training;
  const tensors = layout.map((tensor) => parameterGroupOf(tensor, training));
  return { tensors, betas, epsilon, weightDecay };
}
