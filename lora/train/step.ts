/**
 * The training graph (forward, per-token loss, backward as one graph) and its run over the micro-batches of an
 * optimiser step.
 */

import { emptyRow, IGNORED_LABEL, type Row } from '../data/packing.ts';
import type { Executable } from '../engines/engine.ts';
import { gradients } from '../graph/gradients.ts';
import { Graph, type Tensor } from '../graph/graph.ts';
import { crossEntropy, reduceSum } from '../graph/ops.ts';
import type { Architecture, Parameter, ParameterSource, TrainableSource } from '../models/architecture.ts';
import type { ModelConfig } from '../models/families.ts';
import { sequenceFeeds, sequenceInputs } from '../models/sequences.ts';

export interface GraphSize {
  readonly config: ModelConfig;
  readonly architecture: Architecture;
  /** Rows per run. */
  readonly batch: number;
  /** Tokens per row. */
  readonly length: number;
}

type Feeds = Record<string, Float32Array | BigInt64Array>;

/**
 * Inputs: ids, positions, mask, labels, and every trainable parameter under its name.
 * Outputs: `loss`, the sum over tokens in nats, and its gradient `gradient/<name>` for every trainable one.
 */
export function trainingGraph(
  size: GraphSize,
  parametersOf: (graph: Graph) => TrainableSource,
): { graph: Graph; parameters: Parameter[] } {
  const graph = new Graph();
  const source = parametersOf(graph);
  const loss = reduceSum(tokenLosses(graph, size, source), null, false);
  const names = [...source.trainable.keys()];
  const found = gradients(loss, [...source.trainable.values()]);
  graph.output('loss', loss);
  for (const [i, name] of names.entries()) graph.output(gradientOf(name), found[i]!);
  return { graph, parameters: names.map((name) => ({ name, shape: source.trainable.get(name)!.shape })) };
}

/** Forward only. Output: `losses` [B·T], nats per token, 0 where nothing is predicted. */
export function lossGraph(size: GraphSize, parametersOf: (graph: Graph) => ParameterSource): Graph {
  const graph = new Graph();
  graph.output('losses', tokenLosses(graph, size, parametersOf(graph)));
  return graph;
}

function tokenLosses(graph: Graph, size: GraphSize, source: ParameterSource): Tensor {
  const { config, architecture, batch, length } = size;
  const logits = architecture.forward(graph, config, sequenceInputs(graph, batch, length), source);
  return crossEntropy(logits, graph.input('labels', [batch * length], 'int64'));
}

function gradientOf(name: string): string {
  return `gradient/${name}`;
}

/** Feeds for `batch` rows of `length` tokens; missing rows are padding. */
export function rowFeeds(rows: readonly Row[], { batch, length }: { batch: number; length: number }): Feeds {
  const padding = emptyRow(length);
  const full = Array.from({ length: batch }, (_, i) => rows[i] ?? padding);
  const labels = new BigInt64Array(batch * length);
  for (const [i, row] of full.entries()) {
    for (let t = 0; t < length; t++) labels[i * length + t] = BigInt(row.labels[t]!);
  }
  return { ...sequenceFeeds(full, length), labels };
}

export interface LossAndGradients {
  /** Nats, summed over the predicted tokens. */
  lossSum: number;
  /** Predicted tokens. */
  tokens: number;
}

export interface StepOptions {
  batch: number;
  length: number;
  /** Called before each micro-batch; throws to give up, and lets the event loop breathe. */
  pause(): Promise<void>;
}

/**
 * Loss and gradient sums over `rows`, micro-batch by micro-batch. Sums, not means: dividing once by all tokens
 * makes accumulation exact however the tokens are spread over the micro-batches.
 *
 * @param parameters name → values, fed as they are
 * @param into gradient sums in the order of `parameters`; overwritten
 */
export async function lossAndGradients(
  executable: Executable,
  rows: readonly Row[],
  parameters: ReadonlyMap<string, Float32Array>,
  into: readonly Float32Array[],
  { batch, length, pause }: StepOptions,
): Promise<LossAndGradients> {
  const names = [...parameters.keys()];
  let lossSum = 0;
  let tokens = 0;
  for (let start = 0; start < rows.length; start += batch) {
    await pause();
    const feeds = rowFeeds(rows.slice(start, start + batch), { batch, length });
    for (const label of feeds.labels as BigInt64Array) if (label !== BigInt(IGNORED_LABEL)) tokens++;
    const outputs = await executable.run({ ...feeds, ...Object.fromEntries(parameters) });
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

export interface RowLoss {
  /** Nats, summed over the row's predicted tokens. */
  lossSum: number;
  /** Predicted tokens. */
  tokens: number;
}

/** Loss of every row. `executable` is a compiled `lossGraph`; `parameters` its inputs, if any. */
export async function rowLosses(
  executable: Executable,
  rows: readonly Row[],
  parameters: ReadonlyMap<string, Float32Array>,
  { batch, length, pause }: StepOptions,
): Promise<RowLoss[]> {
  const results: RowLoss[] = [];
  for (let start = 0; start < rows.length; start += batch) {
    await pause();
    const some = rows.slice(start, start + batch);
    const feeds = { ...rowFeeds(some, { batch, length }), ...Object.fromEntries(parameters) };
    const { losses } = await executable.run(feeds);
    for (const [i, row] of some.entries()) {
      let lossSum = 0;
      let tokens = 0;
      for (let t = 0; t < length; t++) {
        if (row.labels[t] === IGNORED_LABEL) continue;
        lossSum += losses![i * length + t]!;
        tokens++;
      }
      results.push({ lossSum, tokens });
    }
  }
  return results;
}
