import type { LoraConfig } from '../adapter/lora-config.ts';
import type { Engine, Executable, WeightFile } from '../engines/engine.ts';
import type { Graph } from '../graph/graph.ts';
import type { BaseModel } from '../models/base/base-model.ts';
import { adaptedParameters } from './adapted-model.ts';
import type { ResolvedCompute } from './compute.ts';
import type { TrainingConfig } from './config.ts';
import type { LossScale } from './optimizer/loss-scale.ts';
import { inPrecision } from './precision.ts';
import { lossGraph, trainingGraph } from './step.ts';
import { isSized, SizedExecutables } from './supervised.ts';

export interface TrainerSettings {
  lora: LoraConfig;
  training: TrainingConfig;
  /** Gradient checkpointing, and a precision that the engine of the trainer must support. */
  compute: Pick<ResolvedCompute, 'checkpointing' | 'precision'>;
}

interface TrainerGraphsDeps {
  model: BaseModel;
  engine: Engine;
  /** The base's weights, as `prepareWeights` returns them. */
  weights: WeightFile;
  /** Values of all tensors of the adapter, by the tensors' names. */
  values: ReadonlyMap<string, Float32Array>;
  /** Scale of the loss; null if everything is computed in float32. */
  lossScale: LossScale | null;
}

/**
 * Returns a text that is the same for two jobs on one base if and only if both need the same graphs. The optimiser, its
 * learning rate, the batch size and the seed do not affect the graphs.
 */
export function graphsKey({ lora, training, compute }: TrainerSettings): string {
  const { microBatch, batchSize, sequenceLength, labelSmoothing, neftuneAlpha } = training;
  const { checkpointing, precision } = compute;
  const batch = Math.min(microBatch, batchSize);
  return JSON.stringify([
    lora,
    { batch, sequenceLength, labelSmoothing, neftuneAlpha, checkpointing, precision },
  ]);
}

/** The compiled training graphs, their input tensors, and the sums of the gradients. */
export interface TrainingGraphs {
  readonly executables: SizedExecutables;
  /** Name → values of the adapter's trained tensors, which the optimiser changes. */
  readonly trained: ReadonlyMap<string, Float32Array>;
  /** Values of the adapter's tensors that are not trained, by the tensors' names. */
  readonly frozen: ReadonlyMap<string, Float32Array>;
  readonly gradients: ReadonlyMap<string, Float32Array>;
  /** Whether the graph has the input `seed`, because it applies dropout or adds noise. */
  readonly random: boolean;
}

/**
 * The compiled graphs of a trainer. They are compiled on first use, because each one can take as much memory as the
 * base. Nodes need no graph for evaluation, and a coordinator that does not score updates needs none for training.
 */
export class TrainerGraphs {
  readonly #settings: TrainerSettings;
  readonly #deps: TrainerGraphsDeps;
  #training: TrainingGraphs | null = null;
  #evaluation: SizedExecutables | null = null;

  constructor(settings: TrainerSettings, deps: TrainerGraphsDeps) {
    this.#settings = settings;
    this.#deps = deps;
  }

  /** Model and shape of one pass: `batch` rows of `length` tokens. */
  get size() {
    const { config, architecture } = this.#deps.model;
    const { microBatch, batchSize, sequenceLength } = this.#settings.training;
    const batch = Math.min(microBatch, batchSize);
    return { config, architecture, batch, length: sequenceLength };
  }

  training(): TrainingGraphs {
    this.#training ??= this.#prepareTraining();
    return this.#training;
  }

  evaluation(): SizedExecutables {
    this.#evaluation ??= this.#sized((supervised) =>
      lossGraph({ ...this.size, supervised }, (graph) =>
        adaptedParameters(graph, this.#deps.model, this.#settings.lora),
      ),
    );
    return this.#evaluation;
  }

  async dispose(): Promise<void> {
    const training = this.#training;
    const evaluation = this.#evaluation;
    this.#training = null;
    this.#evaluation = null;
    await Promise.all([training?.executables.dispose(), evaluation?.dispose()]);
  }

  #prepareTraining(): TrainingGraphs {
    const { values, lossScale, model } = this.#deps;
    const { lora, training, compute } = this.#settings;
    // Each size of the graph has its own number of slots for supervised tokens (supervised.ts). The graph is built anew
    // for each size, because a graph kept for later takes as much memory as the engine's copy.
    const graphFor = (supervised: number | null) =>
      trainingGraph(
        { ...this.size, supervised },
        (graph) => adaptedParameters(graph, model, lora, { training: true }),
        { ...training, checkpointing: compute.checkpointing, scaled: lossScale !== null },
      );
    const { graph, parameters } = graphFor(null);
    const trained = new Map(parameters.map(({ name }) => [name, values.get(name)!]));
    return {
      executables: this.#sized(
        (supervised) => graphFor(supervised).graph,
        (executable) => lossScale?.around(executable) ?? executable,
      ),
      trained,
      frozen: new Map([...values].filter(([name]) => !trained.has(name))),
      gradients: new Map([...trained].map(([name, { length }]) => [name, new Float32Array(length)])),
      random: graph.inputs.has('seed'),
    };
  }

  #sized(
    graphFor: (supervised: number | null) => Graph,
    finish: (executable: Executable) => Executable = (executable) => executable,
  ): SizedExecutables {
    const { engine, weights, model } = this.#deps;
    const { precision } = this.#settings.compute;
    const { batch, length } = this.size;
    const options = { tokens: batch * length, sized: isSized(engine, weights) };
    return new SizedExecutables(options, async (supervised) =>
      finish(await engine.compile(inPrecision(graphFor(supervised), model.architecture, precision), weights)),
    );
  }
}
