import type { Graph, GraphNode, Tensor } from '../graph.ts';
import { rewriteGraph } from './graph-copy.ts';

type Gemm = GraphNode<'gemm'>;

/**
 * Marks matrix products for float16 if their right operand is a frozen weight, both forward and in the gradient of the
 * left operand (Micikevicius et al. 2018, arXiv 1710.03740). The adapter and its gradients, attention and norms stay
 * float32.
 *
 * @param except names of weights whose products stay float32 too, such as the output head: sums over a vocabulary have
 * too many and too small terms for float16
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
