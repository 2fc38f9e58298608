import { ancestorNodes } from '../gradients.ts';
import type { Graph, GraphNode } from '../graph.ts';

/**
 * Returns the nodes that a graph's outputs depend on, in graph order. Builders leave dead nodes behind, such as logits of
 * tokens without a label and gradients that are not outputs. Engines, passes and cost estimates read only the live
 * nodes, so dead nodes need not be removed.
 */
export function liveNodes({ nodes, outputs }: Graph): GraphNode[] {
  return ancestorNodes(nodes, ...outputs.values());
}
