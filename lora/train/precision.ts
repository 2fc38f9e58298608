import type { Precision } from '../engines/precision.ts';
import type { Graph } from '../graph/graph.ts';
import { markFloat16Products } from '../graph/passes/float16-products.ts';
import type { Architecture } from '../models/architecture.ts';

/** A model's graph as a machine computes it: the output head, also where it is the embedding's table, stays float32. */
export function inPrecision(
  graph: Graph,
  { head, embedding }: Pick<Architecture, 'head' | 'embedding'>,
  precision: Precision,
): Graph {
  return precision === 'float32' ? graph : markFloat16Products(graph, new Set([`${head}.weight`, embedding]));
}
