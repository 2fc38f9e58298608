import { Graph, type GraphNode, type Tensor } from '../graph.ts';
import { liveNodes } from './live-nodes.ts';

/** A copy of a graph, written node by node. It has no gradient rules. */
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

  /** Returns the copy's tensor for a tensor of the original. */
  of(tensor: Tensor): Tensor {
    return this.#tensors.get(tensor)!;
  }

  /**
   * Appends a copy of a node.
   * @param operand maps an input of the original node to the tensor that the copied node reads. @default `of`
   */
  add(node: GraphNode, operand: (tensor: Tensor) => Tensor = (tensor) => this.of(tensor)): void {
    this.replace(node, this.graph.repeat(node, node.inputs.map(operand)));
  }

  /** Sets the tensors of the copy that replace the outputs of a node of the original graph. */
  replace(node: GraphNode, outputs: readonly Tensor[]): void {
    for (const [i, output] of node.outputs.entries()) this.#tensors.set(output, outputs[i]!);
  }
}

/** Copies a graph without its dead nodes. `write` adds or replaces each node. */
export function rewriteGraph(graph: Graph, write: (node: GraphNode, copy: GraphCopy) => void): Graph {
  const copy = new GraphCopy(graph);
  for (const node of liveNodes(graph)) write(node, copy);
  for (const [name, tensor] of graph.outputs) copy.graph.output(name, copy.of(tensor));
  return copy.graph;
}
