import { ancestorNodes } from '../gradients.ts';
import type { Graph, GraphNode } from '../graph.ts';

/**
 * What is left of a graph without its dead code: the nodes that its outputs depend on, in graph order. Builders leave the
 * others behind freely (logits of tokens that nobody reads, gradients that nobody asked for). Whoever runs, rewrites or
 * weighs a graph looks at these only, so that nothing has to be taken out of it.
 */
export function liveNodes({ nodes, outputs }: Graph): GraphNode[] {
  return ancestorNodes(nodes, ...outputs.values());
}
