import { Graph, type GraphNode, type Tensor } from '../graph.ts';
import { liveNodes } from './live-nodes.ts';

/** A graph that is written anew, node by node in the order that they are added in. It has no gradient rules. */
export class GraphCopy {
  readonly graph = new Graph();
  readonly #tensors = new Map<Tensor, Tensor>();

  constructor(graph: Graph) {
    for (const [name, tensor] of graph.inputs)
      this.#tensors.set(tensor, this.graph.input(name, tensor.shape, tensor.dtype));
    for (const [name, tensor] of graph.weights)
      this.#tensors.set(tensor, this.graph.weight(name, tensor.shape));
    for (const [tensor, data] of graph.constants)
      this.#tensors.set(tensor, this.graph.constant(tensor.shape, data));
  }

  /** What stands for a tensor of the original. */
  of(tensor: Tensor): Tensor {
    return this.#tensors.get(tensor)!;
  }

  /** @param operand what the copy of a node reads in the place of a tensor. Default: what stands for it. */
  add(node: GraphNode, operand: (tensor: Tensor) => Tensor = (tensor) => this.of(tensor)): void {
    this.replace(node, this.graph.repeat(node, node.inputs.map(operand)));
  }

  /** Lets other tensors of the copy stand for the results of a node. */
  replace(node: GraphNode, outputs: readonly Tensor[]): void {
    for (const [i, output] of node.outputs.entries()) this.#tensors.set(output, outputs[i]!);
  }
}

/** The graph with each of its nodes written anew by `write`, which adds or replaces it; without dead code. */
export function rewriteGraph(graph: Graph, write: (node: GraphNode, copy: GraphCopy) => void): Graph {
  const copy = new GraphCopy(graph);
  for (const node of liveNodes(graph)) write(node, copy);
  for (const [name, tensor] of graph.outputs) copy.graph.output(name, copy.of(tensor));
  return copy.graph;
}
