import type { SwarmError } from '../../common/errors.ts';
import { graphError } from './errors.ts';
import type { Backward, GraphNode, Tensor } from './graph.ts';
import { add } from './ops/elementwise.ts';
import { shapeError } from './shapes.ts';

/**
 * Differentiates in reverse mode: appends backward nodes to the graph of `loss` and returns the gradient of the scalar
 * `loss` with respect to every tensor of `wrt`, in the order and shapes of `wrt`. Nodes that depend on no tensor of
 * `wrt` get no backward nodes.
 * @throws SwarmError GRAPH_SHAPE when `loss` is not a scalar, GRAPH_NO_GRADIENT when `loss` does not depend on every
 *   tensor of `wrt`, GRAPH_NOT_DIFFERENTIABLE when an operation between `wrt` and `loss` has no gradient rule
 */
export function gradients(loss: Tensor, wrt: readonly Tensor[]): Tensor[] {
  if (loss.shape.length !== 0) throw shapeError('gradients', 'the loss must be a scalar []', loss.shape);
  const graph = loss.graph;
  const trainable = dependents(graph.nodes, wrt);
  const ancestors = ancestorNodes(graph.nodes, loss);
  const totals = new Map<Tensor, Tensor>([[loss, graph.constant([], Float32Array.of(1))]]);

  for (const node of ancestors.reverse()) {
    const first = node.outputs[0]!;
    const gradient = totals.get(first);
    // Hidden outputs exist only for the backward pass. They get gradients only in a second differentiation, which is
    // not supported.
    if (node.outputs.some((output) => output !== first && totals.has(output))) throw notDifferentiable(node);
    if (gradient === undefined || !trainable.has(first)) continue;
    if (node.gradient === null) throw notDifferentiable(node);
    node.gradient(backwardOf(node, gradient, trainable, totals));
  }
  return wrt.map((tensor, index) => {
    const total = totals.get(tensor);
    if (total === undefined) {
      throw graphError('GRAPH_NO_GRADIENT', `the loss does not depend on tensor ${index} of wrt`, {
        index,
        shape: tensor.shape,
      });
    }
    return total;
  });
}

function notDifferentiable({ operation }: GraphNode): SwarmError {
  return graphError(
    'GRAPH_NOT_DIFFERENTIABLE',
    `the loss depends on a parameter through ${operation}, which has no gradient rule for this use`,
    { operation },
  );
}

function backwardOf(
  node: GraphNode,
  gradient: Tensor,
  trainable: ReadonlySet<Tensor>,
  totals: Map<Tensor, Tensor>,
): Backward {
  const needs = (input: number) => trainable.has(node.inputs[input]!);
  const backward: Backward = {
    gradient,
    needs,
    add: (input, make) => backward.contribute(input, (sum) => (sum === null ? make() : add(sum, make()))),
    contribute(input, make) {
      if (!needs(input)) return;
      const target = node.inputs[input]!;
      const total = make(totals.get(target) ?? null);
      if (total.shape.join() !== target.shape.join()) {
        throw shapeError(
          `gradient of ${node.operation}`,
          'a gradient must have the shape of its tensor',
          total.shape,
          target.shape,
        );
      }
      totals.set(target, total);
    },
  };
  return backward;
}

/** Returns all tensors that depend on one of `roots`, including the roots. */
function dependents(nodes: readonly GraphNode[], roots: readonly Tensor[]): Set<Tensor> {
  const reached = new Set(roots);
  for (const node of nodes) {
    if (node.inputs.some((input) => reached.has(input)))
      for (const output of node.outputs) reached.add(output);
  }
  return reached;
}

/** Returns the nodes that `results` depend on, in graph order. */
export function ancestorNodes(nodes: readonly GraphNode[], ...results: readonly Tensor[]): GraphNode[] {
  const wanted = new Set<Tensor>(results);
  const found: GraphNode[] = [];
  for (const node of nodes.toReversed()) {
    if (!node.outputs.some((output) => wanted.has(output))) continue;
    found.push(node);
    for (const input of node.inputs) wanted.add(input);
  }
  return found.reverse();
}
