/** Trains one adapter on one device, in this process. `TrainerProcess` is the same behind a process boundary. */

import { SwarmError } from '../../protocol/errors.ts';
import { type AdapterLayout, adapterLayout, type LoraConfig } from '../adapter/layout.ts';
import { checkTokens, type Row } from '../data/packing.ts';
import type { Engine, Executable, WeightFile } from '../engines/engine.ts';
import type { Graph } from '../graph/graph.ts';
import type { Model } from '../models/model.ts';
import { AdamW, type AdamWState } from './adamw.ts';
import { adaptedParameters } from './adapted.ts';
import type { TrainingConfig } from './config.ts';
import { learningRateAt } from './schedule.ts';
import { lossAndGradients, lossGraph, type RowLoss, rowLosses, trainingGraph } from './step.ts';

export interface TrainerSettings {
  lora: LoraConfig;
  training: TrainingConfig;
}

export interface TrainerDeps {
  model: Model;
  engine: Engine;
  /** The base's weights as `prepareWeights` made them. */
  weights: WeightFile;
}

export interface TrainRequest {
  /** Taken in order, `batchSize` per optimiser step; when they run out, training ends early. */
  rows: AsyncIterable<Row> | Iterable<Row>;
  /** Optimiser steps at most. */
  steps: number;
  onProgress?: (progress: TrainProgress) => void;
  signal?: AbortSignal;
}

export interface TrainProgress {
  /** Steps done of this request. */
  step: number;
  steps: number;
  /** Nats per predicted token, over the step. */
  loss: number;
  /** Predicted tokens so far. */
  tokens: number;
  learningRate: number;
  /** L2 norm of the mean gradient before clipping. */
  gradientNorm: number;
  tokensPerSecond: number;
}

export interface TrainResult {
  steps: number;
  /** Predicted tokens. */
  tokens: number;
  seconds: number;
  /** Nats per predicted token: first step, last step, over all tokens. NaN when no step was made. */
  lossFirst: number;
  lossLast: number;
  lossMean: number;
}

export class Trainer {
  /** Names and shapes of the adapter's tensors, in the order of every list of tensors here. */
  readonly layout: AdapterLayout;
  private readonly settings: TrainerSettings;
  private readonly deps: TrainerDeps;
  private readonly optimizer: AdamW;
  private readonly values: Float32Array[];
  private readonly gradients: Float32Array[];
  private training: Promise<Executable> | null = null;
  private evaluation: Promise<Executable> | null = null;

  constructor(settings: TrainerSettings, deps: TrainerDeps) {
    this.settings = settings;
    this.deps = deps;
    this.layout = adapterLayout(deps.model, settings.lora);
    const sizes = this.layout.map(({ shape }) => shape[0] * shape[1]);
    this.values = sizes.map((size) => new Float32Array(size));
    this.gradients = sizes.map((size) => new Float32Array(size));
    const { betas, epsilon, weightDecay } = settings.training;
    this.optimizer = new AdamW({
      tensors: sizes.map((size) => ({ size, decay: true })),
      betas,
      epsilon,
      weightDecay,
    });
  }

  /** Copies. @throws ADAPTER_SHAPE when counts or sizes differ from `layout`. */
  setParameters(tensors: readonly Float32Array[]): void {
    const fits =
      tensors.length === this.values.length && tensors.every((t, i) => t.length === this.values[i]!.length);
    if (!fits) {
      throw new SwarmError('ADAPTER_SHAPE', 'the adapter does not have the tensors of this job', {
        tensors: tensors.length,
        expected: this.values.length,
      });
    }
    for (const [i, tensor] of tensors.entries()) this.values[i]!.set(tensor);
  }

  /** A copy of the adapter as it is now. */
  parameters(): Float32Array[] {
    return this.values.map((tensor) => tensor.slice());
  }

  /** Moments and step count: with the parameters, all that is needed to go on bit for bit. */
  optimizerState(): AdamWState {
    return this.optimizer.exportState();
  }

  /** @throws OPTIMIZER_STATE when it belongs to other tensors. */
  setOptimizerState(state: AdamWState): void {
    this.optimizer.importState(state);
  }

  /**
   * Makes optimiser steps on the adapter. Between runs of the graph the event loop turns, so messages and
   * aborts get through. An abort rejects with the signal's reason and leaves the last whole step in place.
   */
  async train({ rows, steps, onProgress, signal }: TrainRequest): Promise<TrainResult> {
    const { training } = this.settings;
    const executable = await this.trainingExecutable();
    const options = this.runOptions(signal);
    const named = this.named();
    const started = performance.now();
    const result: TrainResult = {
      steps: 0,
      tokens: 0,
      seconds: 0,
      lossFirst: Number.NaN,
      lossLast: Number.NaN,
      lossMean: Number.NaN,
    };
    let lossTotal = 0;
    for await (const batch of batches(rows, training.batchSize, steps)) {
      this.check(batch);
      const { lossSum, tokens } = await lossAndGradients(executable, batch, named, this.gradients, options);
      if (tokens === 0) continue;
      const learningRate = learningRateAt(training, this.optimizer.steps);
      const gradientNorm = this.optimizer.step(this.values, this.gradients, {
        learningRate,
        gradientScale: 1 / tokens,
        clipNorm: training.clipNorm,
      });
      const loss = lossSum / tokens;
      lossTotal += lossSum;
      if (result.steps === 0) result.lossFirst = loss;
      result.steps++;
      result.tokens += tokens;
      result.lossLast = loss;
      result.lossMean = lossTotal / result.tokens;
      result.seconds = (performance.now() - started) / 1000;
      onProgress?.({
        step: result.steps,
        steps,
        loss,
        tokens: result.tokens,
        learningRate,
        gradientNorm,
        tokensPerSecond: result.tokens / result.seconds,
      });
    }
    return result;
  }

  /** Loss of every row under the adapter as it is now. */
  async evaluate(rows: readonly Row[], { signal }: { signal?: AbortSignal } = {}): Promise<RowLoss[]> {
    this.check(rows);
    const executable = await this.evaluationExecutable();
    return rowLosses(executable, rows, this.named(), this.runOptions(signal));
  }

  async dispose(): Promise<void> {
    const executables = await Promise.all([this.training, this.evaluation]);
    this.training = null;
    this.evaluation = null;
    await Promise.all(executables.map((executable) => executable?.dispose()));
  }

  // Compiled on first use: a node never evaluates, a coordinator never trains, and each costs the base's memory.
  private trainingExecutable(): Promise<Executable> {
    this.training ??= this.compile(
      trainingGraph(this.size(), (graph) => adaptedParameters(graph, this.deps.model, this.settings.lora))
        .graph,
    );
    return this.training;
  }

  private evaluationExecutable(): Promise<Executable> {
    this.evaluation ??= this.compile(
      lossGraph(this.size(), (graph) => adaptedParameters(graph, this.deps.model, this.settings.lora)),
    );
    return this.evaluation;
  }

  private compile(graph: Graph): Promise<Executable> {
    return this.deps.engine.compile(graph, this.deps.weights);
  }

  private check(rows: readonly Row[]): void {
    for (const row of rows) checkTokens(row, this.deps.model.config.vocabularySize);
  }

  private size() {
    const { config, architecture } = this.deps.model;
    const { microBatch, batchSize, sequenceLength } = this.settings.training;
    return { config, architecture, batch: Math.min(microBatch, batchSize), length: sequenceLength };
  }

  private runOptions(signal: AbortSignal | undefined) {
    const { batch, length } = this.size();
    const pause = async () => {
      await new Promise(setImmediate);
      signal?.throwIfAborted();
    };
    return { batch, length, pause };
  }

  private named(): Map<string, Float32Array> {
    return new Map(this.layout.map(({ name }, i) => [name, this.values[i]!]));
  }
}

async function* batches(
  rows: AsyncIterable<Row> | Iterable<Row>,
  size: number,
  count: number,
): AsyncGenerator<Row[], void, undefined> {
  if (count <= 0) return;
  let made = 0;
  let batch: Row[] = [];
  for await (const row of rows) {
    batch.push(row);
    if (batch.length < size) continue;
    yield batch;
    batch = [];
    if (++made === count) return;
  }
  if (batch.length > 0) yield batch;
}
