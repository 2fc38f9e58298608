/** NEFTune (Jain et al. 2023, arXiv 2310.05914): noise on the embeddings during training. */
import type { Graph, Tensor } from '../graph/graph.ts';
import { add, randomSeed, scale, subtract, uniform } from '../graph/ops.ts';
import type { Architecture, ParameterSource } from '../models/architecture.ts';

/** Number of the random stream that the noise is drawn from. Dropout uses hashes of module names as stream numbers. */
const NOISE_STREAM = 0;

export interface NoiseOptions {
  /** α: the noise added to a value is uniform in ±α/√(L·d). */
  readonly alpha: number;
  readonly architecture: Pick<Architecture, 'embedding'>;
  /** Number of tokens in a row (L). */
  readonly length: number;
  /**
   * Factor by which the model family scales embeddings. Noise is added after scaling, as in transformers. @default 1
   */
  readonly scale?: number;
}

/**
 * Returns parameters that add noise to the embeddings. The noise is uniform in ±α/√(L·d). As in transformers, L is the
 * length of a row with its padding, and d the width of the model.
 */
export function noisyEmbeddings(
  graph: Graph,
  source: ParameterSource,
  { alpha, architecture, length, scale: factor = 1 }: NoiseOptions,
): ParameterSource {
  const rows = (name: string, ids: Tensor): Tensor => {
    const embedded = source.rows(name, ids);
    if (name !== architecture.embedding) return embedded;
    const bound = alpha / Math.sqrt(length * embedded.shape[1]!) / factor;
    return add(embedded, noise(graph, embedded.shape, bound));
  };
  return { ...source, rows };
}

/** Returns noise, uniform in [−bound, bound). */
function noise(graph: Graph, shape: readonly number[], bound: number): Tensor {
  const random = uniform(shape, randomSeed(graph), NOISE_STREAM);
  return subtract(scale(random, 2 * bound), graph.constant([], Float32Array.of(bound)));
}
