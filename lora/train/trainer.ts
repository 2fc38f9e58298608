/** Trains one adapter on one device, in this process. `TrainerProcess` does the same in a child process. */

import { type AdapterLayout, adapterLayout } from '../adapter/layout.ts';
import type { LoraConfig } from '../adapter/lora-config.ts';
import { checkTokens, type Row } from '../data/row.ts';
import type { Engine, Executable, WeightFile } from '../engines/engine.ts';
import type { Graph } from '../graph/graph.ts';
import type { BaseModel } from '../models/base/base-model.ts';
import { adaptedParameters } from './adapted-model.ts';
import { batches } from './batches.ts';
import type { ResolvedCompute } from './compute.ts';
import type { TrainingConfig } from './config.ts';
import {
  DataParallel,
  type DataParallelOptions,
  type DataParallelWorker,
  type GradientRequest,
  type GradientSums,
} from './data-parallel.ts';
import { trainError } from './errors.ts';
import { AdamW, type AdamWState } from './optimizer/adamw.ts';
import { LossScale, requireLossScale } from './optimizer/loss-scale.ts';
import { parameterGroupOf } from './optimizer/parameter-groups.ts';
import { learningRateAt } from './optimizer/schedule.ts';
import { inPrecision } from './precision.ts';
import { StepTally, type TrainProgress, type TrainResult } from './progress.ts';
import { lossAndGradients, lossGraph, type RowLoss, rowLosses, seedFeed, trainingGraph } from './step.ts';
import { isSized, SizedExecutables } from './supervised.ts';

export type { TrainProgress, TrainResult } from './progress.ts';

export interface TrainerSettings {
  lora: LoraConfig;
  training: TrainingConfig;
  /** The engine in `deps` must support the precision. */
  compute: Pick<ResolvedCompute, 'checkpointing' | 'precision'>;
}

export interface TrainerDeps {
  model: BaseModel;
  engine: Engine;
  /** The base's weights, as `prepareWeights` returns them. */
  weights: WeightFile;
  /** Trainers on other devices, with the same base and settings. @default none */
  workers?: readonly DataParallelWorker[];
  /** Called when a worker failed; training continues without it. */
  onLost?: DataParallelOptions['onLost'];
}

export interface TrainRequest {
  /** Rows, which are read in order, `batchSize` per optimiser step. When the rows run out, training ends early. */
  rows: AsyncIterable<Row> | Iterable<Row>;
  /** Largest number of optimiser steps to make. */
  steps: number;
  /** Progress of the job. @default the steps of this optimiser, for a run on one machine */
  position?: JobPosition;
  onProgress?: (progress: TrainProgress) => void;
  signal?: AbortSignal;
}

/**
 * Progress of a job. The learning rate follows the job's progress, not the steps of one node. A node that joined late,
 * or makes fewer steps per round, therefore uses the same rate as the other nodes.
 */
export interface JobPosition {
  /** Optimiser steps of the job before this request. */
  readonly start: number;
  /** Steps of the job per step of this node: 1, or more for a node that makes fewer steps than planned. */
  readonly perStep: number;
}

export class Trainer {
  /** Names and shapes of the adapter's tensors. All lists of tensors have this order. */
  readonly layout: AdapterLayout;
  readonly #settings: TrainerSettings;
  readonly #deps: TrainerDeps;
  readonly #optimizer: AdamW;
  readonly #values: Float32Array[];
  readonly #dataParallel: DataParallel;
  readonly #lossScale: LossScale | null;
  #training: TrainingRun | null = null;
  #evaluation: SizedExecutables | null = null;

  constructor(settings: TrainerSettings, deps: TrainerDeps) {
    this.#settings = settings;
    this.#deps = deps;
    this.layout = adapterLayout(deps.model, settings.lora);
    const { betas, epsilon, weightDecay } = settings.training;
    const tensors = this.layout.map((tensor) => parameterGroupOf(tensor, settings.training));
    this.#values = tensors.map(({ size }) => new Float32Array(size));
    this.#optimizer = new AdamW({ tensors, betas, epsilon, weightDecay });
    this.#lossScale = settings.compute.precision === 'float16' ? new LossScale() : null;
    const { workers = [], onLost = () => {} } = deps;
    this.#dataParallel = new DataParallel(workers, { microBatch: this.#size().batch, onLost });
  }

  /** Copies `tensors` into the adapter. @throws SwarmError ADAPTER_SHAPE when counts or sizes differ from `layout` */
  setParameters(tensors: readonly Float32Array[]): void {
    const fits =
      tensors.length === this.#values.length && tensors.every((t, i) => t.length === this.#values[i]!.length);
    if (!fits) {
      throw trainError('ADAPTER_SHAPE', 'the tensors of the adapter differ from those of this job', {
        tensors: tensors.length,
        expected: this.#values.length,
      });
    }
    for (const [i, tensor] of tensors.entries()) this.#values[i]!.set(tensor);
  }

  /** Returns a copy of the adapter. */
  parameters(): Float32Array[] {
    return this.#values.map((tensor) => tensor.slice());
  }

  /**
   * Returns moments, step count and loss scale. Together with the parameters they are enough to continue bit for bit.
   */
  optimizerState(): AdamWState {
    const state = this.#optimizer.exportState();
    return this.#lossScale === null ? state : { ...state, lossScale: this.#lossScale.state };
  }

  /**
   * @throws SwarmError OPTIMIZER_STATE for the state of different tensors or an invalid loss scale; the optimiser is
   * then unchanged
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
  async train({ rows, steps, position, onProgress, signal }: TrainRequest): Promise<TrainResult> {
    const { training } = this.#settings;
    const { executables, gradients } = this.#trainingRun();
    const tally = new StepTally(steps);
    let taken = 0;
    for await (const batch of batches(rows, training.batchSize, steps)) {
      this.#check(batch);
      if (taken === 0) {
        // Compiles before the clock starts, so that the measured speed does not include compilation.
        await executables.for(batch.slice(0, this.#size().batch));
        tally.start();
      }
      taken += batch.length;
      const step = this.#optimizer.steps;
      const { lossSum, tokens } = await this.#dataParallel.gradients(
        { adapter: this.#values, rows: batch, step },
        (some, first) => this.#sums(some, { step, first }, signal),
        signal,
      );
      if (tokens === 0) continue;
      const reached = position && position.start + tally.result.steps * position.perStep;
      const learningRate = learningRateAt(training, step, reached);
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
    await this.#trainingRun().executables.for(request.rows.slice(0, this.#size().batch));
    const started = performance.now();
    const sums = await this.#sums(request.rows, request, signal);
    return { ...sums, seconds: (performance.now() - started) / 1000 };
  }

  /** Returns the loss of every row with the current adapter. */
  async evaluate(rows: readonly Row[], { signal }: { signal?: AbortSignal } = {}): Promise<RowLoss[]> {
    this.#check(rows);
    return rowLosses(this.#evaluationExecutables(), rows, this.#named(), this.#runOptions(signal));
  }

  /**
   * Returns the gradient of the mean loss over rows with the current adapter, in nats per supervised token. The result
   * has one tensor per entry of the layout, with zeros for a tensor that is not trained.
   */
  async lossGradient(
    rows: readonly Row[],
    { signal }: { signal?: AbortSignal } = {},
  ): Promise<Float32Array[]> {
    this.#check(rows);
    const { trained, executables } = this.#trainingRun();
    await executables.for(rows.slice(0, this.#size().batch));
    const { gradients, tokens } = await this.#sums(rows, { step: 0, first: 0 }, signal);
    const sums = new Map([...trained.keys()].map((name, i) => [name, gradients[i]!]));
    return this.layout.map(
      ({ name }, i) =>
        sums.get(name)?.map((sum) => (tokens > 0 ? sum / tokens : 0)) ??
        new Float32Array(this.#values[i]!.length),
    );
  }

  async dispose(): Promise<void> {
    const training = this.#training;
    const evaluation = this.#evaluation;
    this.#training = null;
    this.#evaluation = null;
    await Promise.all([training?.executables.dispose(), evaluation?.dispose()]);
  }

  /** @returns sums in tensors that the next call overwrites; zeros if there are no rows */
  async #sums(
    rows: readonly Row[],
    { step, first }: Pick<GradientRequest, 'step' | 'first'>,
    signal: AbortSignal | undefined,
  ): Promise<Omit<GradientSums, 'seconds'>> {
    const { executables, trained, frozen, gradients, random } = this.#trainingRun();
    const { seed } = this.#settings.training;
    const into = [...gradients.values()];
    if (rows.length === 0) for (const tensor of into) tensor.fill(0);
    const { lossSum, tokens } = await lossAndGradients(executables, rows, trained, into, {
      ...this.#runOptions(signal),
      frozen,
      randomness: (microBatch, some) => (random ? seedFeed(seed, step, first + microBatch, some) : {}),
    });
    return { lossSum, tokens, gradients: into };
  }

  // Graphs are compiled on first use, because each one can take as much memory as the base. Nodes need no graph for
  // evaluation, and a coordinator that does not score updates needs none for training.
  #trainingRun(): TrainingRun {
    this.#training ??= this.#prepareTraining();
    return this.#training;
  }

  #prepareTraining(): TrainingRun {
    const { checkpointing } = this.#settings.compute;
    // The graph is built again for each size. Keeping it would take as much memory as the engine's copy of it.
    const graphFor = (supervised: number | null) =>
      trainingGraph(
        { ...this.#size(), supervised },
        (graph) => adaptedParameters(graph, this.#deps.model, this.#settings.lora, { training: true }),
        { ...this.#settings.training, checkpointing, scaled: this.#lossScale !== null },
      );
    const { graph, parameters } = graphFor(null);
    const values = this.#named();
    const trained = new Map(parameters.map(({ name }) => [name, values.get(name)!]));
    return {
      executables: this.#sized(
        (supervised) => graphFor(supervised).graph,
        (executable) => this.#lossScale?.around(executable) ?? executable,
      ),
      trained,
      frozen: new Map([...values].filter(([name]) => !trained.has(name))),
      gradients: new Map([...trained].map(([name, { length }]) => [name, new Float32Array(length)])),
      random: graph.inputs.has('seed'),
    };
  }

  #evaluationExecutables(): SizedExecutables {
    this.#evaluation ??= this.#sized((supervised) =>
      lossGraph({ ...this.#size(), supervised }, (graph) =>
        adaptedParameters(graph, this.#deps.model, this.#settings.lora),
      ),
    );
    return this.#evaluation;
  }

  #sized(
    graphFor: (supervised: number | null) => Graph,
    finish: (executable: Executable) => Executable = (executable) => executable,
  ): SizedExecutables {
    const { engine, weights, model } = this.#deps;
    const { precision } = this.#settings.compute;
    const { batch, length } = this.#size();
    const options = { tokens: batch * length, sized: isSized(engine, weights) };
    return new SizedExecutables(options, async (supervised) =>
      finish(await engine.compile(inPrecision(graphFor(supervised), model.architecture, precision), weights)),
    );
  }

  #check(rows: readonly Row[]): void {
    for (const row of rows) checkTokens(row, this.#deps.model.config.vocabularySize);
  }

  #size() {
    const { config, architecture } = this.#deps.model;
    const { microBatch, batchSize, sequenceLength } = this.#settings.training;
    const batch = Math.min(microBatch, batchSize);
    return { config, architecture, batch, length: sequenceLength };
  }

  #runOptions(signal: AbortSignal | undefined) {
    const { batch, length } = this.#size();
    const pause = async () => {
      await new Promise(setImmediate);
      signal?.throwIfAborted();
    };
    return { batch, length, pause };
  }

  #named(): Map<string, Float32Array> {
    return new Map(this.layout.map(({ name }, i) => [name, this.#values[i]!]));
  }
}

/** The compiled training graphs, their input tensors, and the sums of the gradients. */
interface TrainingRun {
  readonly executables: SizedExecutables;
  /** Name → values of the adapter's trained tensors, which the optimiser changes. */
  readonly trained: ReadonlyMap<string, Float32Array>;
  /** Name → values of the adapter's other tensors, which stay constant. */
  readonly frozen: ReadonlyMap<string, Float32Array>;
  readonly gradients: ReadonlyMap<string, Float32Array>;
  /** Whether the graph has the input `seed`. */
  readonly random: boolean;
}
