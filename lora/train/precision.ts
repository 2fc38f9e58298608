import type { Precision } from '../engines/precision.ts';
import type { Graph } from '../graph/graph.ts';
import { markFloat16Products } from '../graph/passes/float16-products.ts';
import type { Architecture } from '../models/architecture.ts';

/**
 * Converts a graph's matrix products with base weights to a precision. The output head stays float32, even where it is
 * tied to the embedding.
 */
export function inPrecision(
  graph: Graph,
  { head, embedding }: Pick<Architecture, 'head' | 'embedding'>,
  precision: Precision,
): Graph {
  return precision === 'float32' ? graph : markFloat16Products(graph, new Set([`${head}.weight`, embedding]));
}
