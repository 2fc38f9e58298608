import { DYNAMIC } from '../graph/dynamic.ts';
import type { Graph } from '../graph/graph.ts';
import { cachedAttention, cachedHeadSize } from '../graph/ops.ts';
import type { SequenceInputs } from './architecture.ts';
import type { CommonConfig } from './config.ts';

/** Names of a layer's cache: the graph has an input and an output of each name. */
export function cacheNames(layer: number): { keys: string; values: string } {
  return { keys: `keys.${layer}`, values: `values.${layer}` };
}

/**
 * Returns the number of values that one token has in `keys` of one layer. The token has the same number of
 * values in `values`.
 */
export function cacheWidth({
  keyValueHeads,
  headDim,
}: Pick<CommonConfig, 'keyValueHeads' | 'headDim'>): number {
  return keyValueHeads * cachedHeadSize(headDim);
}

/**
 * Declares the inputs of a forward pass over the newest tokens of some rows, whose earlier tokens are in a cache:
 * - `ids` [tokens] and `positions` [1, tokens] of the new tokens. `cachedAttention` describes their order.
 * - `lengths` [rows], the number of tokens of each row, including the new tokens.
 * - For each layer, the cache's keys and values [rows, KV, capacity, D′], with KV key-value heads of padded size D′
 *   (`cachedHeadSize`). The updated cache is an output under the same names.
 *
 * All sizes except KV and D′ are known only when the graph runs.
 *
 * @param positionCount maximum number of tokens of a row
 */
export function cachedInputs(graph: Graph, config: CommonConfig, positionCount: number): SequenceInputs {
  const lengths = graph.input('lengths', [DYNAMIC.rows], 'int64');
  const shape = [DYNAMIC.rows, config.keyValueHeads, DYNAMIC.capacity, cachedHeadSize(config.headDim)];
  let layer = 0;
  return {
    batch: 1,
    length: DYNAMIC.tokens,
    positionCount,
    ids: graph.input('ids', [DYNAMIC.tokens], 'int64'),
    positions: graph.input('positions', [1, DYNAMIC.tokens], 'int64'),
    attend(q, k, v, options) {
      const names = cacheNames(layer++);
      const cache = {
        keys: graph.input(names.keys, shape),
        values: graph.input(names.values, shape),
        lengths,
      };
      const { output, keys, values } = cachedAttention(q, k, v, cache, options);
      graph.output(names.keys, keys);
      graph.output(names.values, values);
      return output;
    },
  };
}
