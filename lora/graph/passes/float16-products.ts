import type { Graph, GraphNode, Tensor } from '../graph.ts';
import { rewriteGraph } from './graph-copy.ts';

type Gemm = GraphNode<'gemm'>;

/**
 * The same graph in which products with a frozen weight as their right operand, forward and in the gradient of the left one,
 * are marked for float16 (Micikevicius et al. 2018, arXiv 1710.03740). Everything else stays float32: the adapter and its
 * gradients, attention, norms.
 *
 * @param except names of weights that stay float32 as well: sums over a vocabulary are too long for it, and too small
 */
export function markFloat16Products(graph: Graph, except: ReadonlySet<string>): Graph {
  const weights = new Set([...graph.weights].flatMap(([name, tensor]) => (except.has(name) ? [] : [tensor])));
  return rewriteGraph(graph, (node, copy) => copy.add(isProductWith(node, weights) ? inFloat16(node) : node));
}

function isProductWith(node: GraphNode, weights: ReadonlySet<Tensor>): boolean {
  return (
    node.operation === 'gemm' &&
    !(node as unknown as Gemm).attributes.transposeA &&
    weights.has(node.inputs[1]!) &&
    !weights.has(node.inputs[0]!)
  );
}

function inFloat16(node: GraphNode): GraphNode {
  const gemm = node as unknown as Gemm;
  return { ...gemm, attributes: { ...gemm.attributes, float16: true } } as unknown as GraphNode;
}
