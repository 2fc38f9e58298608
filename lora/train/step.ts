/** The training graph (forward, loss and backward in one) and its runs over the micro-batches of a step. */

import { emptyRow, IGNORED_LABEL, type Row } from '../data/row.ts';
import { SeededRandom } from '../data/seeded-random.ts';
import type { Executable, Feeds } from '../engines/engine.ts';
import { gradients } from '../graph/gradients.ts';
import { Graph, type Tensor } from '../graph/graph.ts';
import { crossEntropy, multiply, reduceSum } from '../graph/ops.ts';
import { recomputeActivations } from '../graph/passes/recompute.ts';
import { selectRows } from '../graph/passes/select-rows.ts';
import type {
  Architecture,
  Parameter,
  ParameterSource,
  SequenceInputs,
  TrainableSource,
} from '../models/architecture.ts';
import type { ModelConfig } from '../models/families.ts';
import { sequenceFeeds, sequenceInputs } from '../models/sequences.ts';
import { noisyEmbeddings } from './noise.ts';
import { LOSS_SCALE_INPUT } from './optimizer/loss-scale.ts';
import {
  countSupervised,
  type SizedExecutable,
  type SizedExecutables,
  SUPERVISED_INPUT,
  supervisedFeeds,
} from './supervised.ts';

export interface GraphSize {
  readonly config: ModelConfig;
  readonly architecture: Architecture;
  /** Number of rows in a micro-batch. */
  readonly batch: number;
  /** Number of tokens in a row. */
  readonly length: number;
  /**
   * Number of slots for supervised tokens. Only tokens in these slots get logits. null if all tokens get logits.
   * @default null
   */
  readonly supervised?: number | null;
}

export interface TrainingGraphOptions {
  /** Label smoothing: the share of each target that is spread over the vocabulary. @default 0 */
  labelSmoothing?: number;
  /** NEFTune's α of the noise on the embeddings. @default 0, which adds no noise */
  neftuneAlpha?: number;
  /** Gradient checkpointing: whether the backward pass computes most of the forward pass again. @default false */
  checkpointing?: boolean;
  /** Whether gradients are multiplied by the input LOSS_SCALE_INPUT. @default false */
  scaled?: boolean;
}

export interface TrainingGraph {
  readonly graph: Graph;
  /** Trained parameters. */
  readonly parameters: Parameter[];
}

/**
 * Builds the training graph. Inputs: ids, positions, labels, every tensor of the adapter under its name, `supervised`
 * where `size.supervised` is set, and `seed` with dropout or noise. Outputs: `loss`, the sum over tokens in nats, and
 * `gradient/<name>` for every trained parameter.
 */
export function trainingGraph(
  size: GraphSize,
  parametersOf: (graph: Graph) => TrainableSource,
  { labelSmoothing = 0, neftuneAlpha = 0, checkpointing = false, scaled = false }: TrainingGraphOptions = {},
): TrainingGraph {
  const graph = new Graph();
  const parameters = parametersOf(graph);
  const { architecture, config, batch, length } = size;
  const embeddingScale = architecture.embeddingScale?.(config);
  const inputs = sequenceInputs(graph, batch, length);
  const source =
    neftuneAlpha === 0
      ? parameters
      : noisyEmbeddings(graph, parameters, {
          alpha: neftuneAlpha,
          architecture,
          length,
          scale: embeddingScale,
        });
  const loss = reduceSum(tokenLosses(graph, size, inputs, source, labelSmoothing), null, false);
  const forwardNodes = graph.nodes.length;
  const { trainable } = parameters;
  const target = scaled ? multiply(loss, graph.input(LOSS_SCALE_INPUT, [])) : loss;
  const found = gradients(target, [...trainable.values()]);
  graph.output('loss', loss);
  for (const [i, name] of [...trainable.keys()].entries()) graph.output(gradientOf(name), found[i]!);
  return {
    graph: checkpointing ? recomputeActivations(graph, { forwardNodes, from: inputs.ids }) : graph,
    parameters: [...trainable].map(([name, { shape }]) => ({ name, shape })),
  };
}

/**
 * Builds a graph of the forward pass. Its output `losses` contains a loss in nats for each token or, if
 * `size.supervised` is set, for each slot for a supervised token. The loss of an unsupervised token is 0.
 */
export function lossGraph(size: GraphSize, parametersOf: (graph: Graph) => ParameterSource): Graph {
  const graph = new Graph();
  const source = parametersOf(graph);
  const inputs = sequenceInputs(graph, size.batch, size.length);
  graph.output('losses', tokenLosses(graph, size, inputs, source, 0));
  return graph;
}

function tokenLosses(
  graph: Graph,
  { config, architecture, batch, length, supervised = null }: GraphSize,
  inputs: SequenceInputs,
  source: ParameterSource,
  smoothing: number,
): Tensor {
  const scored = supervised ?? batch * length;
  const all = architecture.forward(graph, config, inputs, source);
  const logits =
    supervised === null ? all : selectRows(all, graph.input(SUPERVISED_INPUT, [scored], 'int64'));
  return crossEntropy(logits, graph.input('labels', [scored], 'int64'), { smoothing });
}

function gradientOf(name: string): string {
  return `gradient/${name}`;
}

/** Returns the feeds of `batch` rows of `length` tokens. If there are fewer than `batch` rows, adds rows of padding. */
export function rowFeeds(
  rows: readonly Row[],
  { batch, length, supervised = null }: Omit<GraphSize, 'config' | 'architecture'>,
): Feeds {
  const padding = emptyRow(length);
  const full = Array.from({ length: batch }, (_, i) => rows[i] ?? padding);
  const labels = new BigInt64Array(batch * length);
  for (const [i, row] of full.entries()) {
    for (let t = 0; t < length; t++) labels[i * length + t] = BigInt(row.labels[t]!);
  }
  const targets = supervised === null ? { labels } : supervisedFeeds(labels, supervised);
  return { ...sequenceFeeds(full, length), ...targets };
}

export interface LossAndGradients {
  /** Loss in nats, summed over the supervised tokens. */
  lossSum: number;
  /** Number of supervised tokens. */
  tokens: number;
}

export interface RunOptions {
  batch: number;
  length: number;
  /** Called before each micro-batch. It lets the event loop run, and throws in order to abort. */
  pause(): Promise<void>;
}

export interface StepOptions extends RunOptions {
  /** Tensors of the adapter that are not trained, by name. @default none */
  frozen?: ReadonlyMap<string, Float32Array>;
  /** Returns the feeds with random numbers for a micro-batch, from its number and its rows. @default no such feeds */
  randomness?: (microBatch: number, rows: readonly Row[]) => Feeds;
}

/**
 * Returns the seed of a micro-batch. The seed depends only on the job's seed, the optimiser step, the number
 * of the micro-batch and its rows. A resumed run therefore draws the same numbers, and nodes that train
 * different rows draw different numbers.
 * @returns a feed for `randomSeed`, 31 bits
 */
export function seedFeed(seed: number, step: number, microBatch: number, rows: readonly Row[]): Feeds {
  let content = 0;
  for (const { ids } of rows) for (const id of ids) content = Math.imul(content ^ id, 0x9e3779b1);
  return {
    seed: BigInt64Array.of(BigInt(new SeededRandom(seed, step, microBatch, content).integer(2 ** 31))),
  };
}

/** One graph for all rows, or several graphs that differ in their number of slots for supervised tokens. */
export type Runnable = Executable | SizedExecutables;

async function sizedFor(runnable: Runnable, rows: readonly Row[]): Promise<SizedExecutable> {
  return 'run' in runnable ? { executable: runnable, supervised: null } : runnable.for(rows);
}

/**
 * Sums loss and gradients over `rows`, micro-batch by micro-batch. The caller divides the sums once, by the number of
 * supervised tokens in all micro-batches. The mean is therefore exact, even if micro-batches differ in their number of
 * supervised tokens.
 *
 * @param parameters name → values of the trained parameters
 * @param into receives the gradient sums, in the order of `parameters`
 */
export async function lossAndGradients(
  runnable: Runnable,
  rows: readonly Row[],
  parameters: ReadonlyMap<string, Float32Array>,
  into: readonly Float32Array[],
  { batch, length, pause, frozen = new Map(), randomness = () => ({}) }: StepOptions,
): Promise<LossAndGradients> {
  const names = [...parameters.keys()];
  const constant = Object.fromEntries([...parameters, ...frozen]);
  let lossSum = 0;
  let tokens = 0;
  for (let start = 0; start < rows.length; start += batch) {
    await pause();
    const some = rows.slice(start, start + batch);
    const { executable, supervised } = await sizedFor(runnable, some);
    const feeds = rowFeeds(some, { batch, length, supervised });
    tokens += countSupervised(some);
    const outputs = await executable.run({ ...feeds, ...randomness(start / batch, some), ...constant });
    lossSum += outputs.loss![0]!;
    for (const [i, name] of names.entries()) {
      const gradient = outputs[gradientOf(name)]!;
      const sum = into[i]!;
      if (start === 0) sum.set(gradient);
      else for (let j = 0; j < sum.length; j++) sum[j] = sum[j]! + gradient[j]!;
    }
  }
  return { lossSum, tokens };
}

/** Loss of one row. */
export interface RowLoss {
  /** Loss in nats, summed over the row's supervised tokens. */
  readonly lossSum: number;
  /** Number of supervised tokens. */
  readonly tokens: number;
}

export interface RowLossOptions extends RunOptions {
  /** Called with the loss of each supervised token, the number of its row and its position in the row. */
  onLoss?: (row: number, position: number, loss: number) => void;
}

/**
 * Returns the loss of every row.
 * @param runnable a compiled `lossGraph`
 * @param parameters values of the inputs of `runnable`, by name
 */
export async function rowLosses(
  runnable: Runnable,
  rows: readonly Row[],
  parameters: ReadonlyMap<string, Float32Array>,
  { batch, length, pause, onLoss }: RowLossOptions,
): Promise<RowLoss[]> {
  const results: RowLoss[] = [];
  for (let start = 0; start < rows.length; start += batch) {
    await pause();
    const some = rows.slice(start, start + batch);
    const { executable, supervised } = await sizedFor(runnable, some);
    const feeds = {
      ...rowFeeds(some, { batch, length, supervised }),
      ...Object.fromEntries(parameters),
    };
    const { losses } = await executable.run(feeds);
    let scored = 0;
    for (const [i, row] of some.entries()) {
      let lossSum = 0;
      let tokens = 0;
      for (let t = 0; t < length; t++) {
        if (row.labels[t] === IGNORED_LABEL) continue;
        const loss = losses![supervised === null ? i * length + t : scored++]!;
        onLoss?.(start + i, t, loss);
        lossSum += loss;
        tokens++;
      }
      results.push({ lossSum, tokens });
    }
  }
  return results;
}
