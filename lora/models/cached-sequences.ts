import { DYNAMIC } from '../graph/dynamic.ts';
import type { Graph } from '../graph/graph.ts';
import { cachedAttention, cachedHeadSize } from '../graph/ops.ts';
import type { SequenceInputs } from './architecture.ts';
import type { CommonConfig } from './config.ts';

/** Names of a layer's cache: the graph has an input and an output of each name. */
export function cacheNames(layer: number): { keys: string; values: string } {
  return { keys: `keys.${layer}`, values: `values.${layer}` };
}

/** Returns the number of values that one token takes in `keys`, and again in `values`, of one layer. */
export function cacheWidth({
  keyValueHeads,
  headDim,
}: Pick<CommonConfig, 'keyValueHeads' | 'headDim'>): number {
  return keyValueHeads * cachedHeadSize(headDim);
}

/**
 * Declares the inputs of a forward pass over the newest tokens of some rows, whose earlier tokens are in a cache:
 * `ids` [tokens], `positions` [1, tokens], `lengths` [rows] (tokens of each row, the new ones included) and, for each
 * layer, the cache's keys and values [rows, KV, capacity, D′]. The updated cache is an output under the same names.
 * All sizes except KV and D′ are known only when the graph runs. See `cachedAttention` for the order of the tokens.
 *
 * @param positionCount largest number of tokens of a row
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
