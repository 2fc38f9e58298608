/** NEFTune (Jain et al. 2023, arXiv 2310.05914): noise on the embeddings while training. */
import type { Graph, Tensor } from '../graph/graph.ts';
import { add, gatherRows, randomSeed, scale, subtract, uniform } from '../graph/ops.ts';
import type { Architecture, ParameterSource, SequenceInputs } from '../models/architecture.ts';

/** Stream of the noise; those of dropout are hashes of module names. */
const NOISE_STREAM = 0;

export interface NoiseOptions {
  /** α: the noise of an element is uniform in ±α/√(L·d). */
  readonly alpha: number;
  readonly architecture: Pick<Architecture, 'embedding'>;
}

/**
 * Inputs and parameters with which a forward pass sees noisy embeddings, whatever the family: the table that it looks
 * tokens up in holds one row per position, already looked up and with noise, and its ids count the positions. As in
 * transformers, L is the length of a whole row with its padding, and d the width.
 */
export function noisyEmbeddings(
  graph: Graph,
  inputs: SequenceInputs,
  source: ParameterSource,
  { alpha, architecture }: NoiseOptions,
): { inputs: SequenceInputs; source: ParameterSource } {
  const embedded = gatherRows(source.tensor(architecture.embedding), inputs.ids);
  const [tokens, width] = embedded.shape as readonly [number, number];
  const bound = alpha / Math.sqrt(inputs.length * width);
  const noisy = add(embedded, noise(graph, embedded.shape, bound));
  const positions = graph.constant(
    [tokens],
    BigInt64Array.from({ length: tokens }, (_, i) => BigInt(i)),
  );
  return {
    inputs: { ...inputs, ids: positions },
    source: { ...source, tensor: (name) => (name === architecture.embedding ? noisy : source.tensor(name)) },
  };
}

/** Uniform in [−bound, bound). */
function noise(graph: Graph, shape: readonly number[], bound: number): Tensor {
  const random = uniform(shape, randomSeed(graph), NOISE_STREAM);
  return subtract(scale(random, 2 * bound), graph.constant([], Float32Array.of(bound)));
}
