import type { Graph, GraphNode, Tensor } from '../graph.ts';
import { type GraphCopy, rewriteGraph } from './graph-copy.ts';
import { liveNodes } from './live-nodes.ts';

export interface RecomputeOptions {
  /** Number of nodes of the forward pass, which come first in the graph. */
  readonly forwardNodes: number;
  /** The embedded tokens, where the residual stream through the model's blocks starts. */
  readonly from: Tensor;
}

/**
 * Rewrites a training graph for gradient checkpointing (Chen et al. 2016, arXiv 1604.06174): the backward pass
 * recomputes most of the forward values that it reads, instead of keeping them.
 *
 * The forward pass is cut into segments. A cut is at each tensor that lies on all paths from `from` to later values.
 * In a model with a residual stream, these tensors are the stream's values after each addition, so there are two cuts
 * per block. Values that a later segment reads are kept. A value that only its own segment reads is recomputed from
 * the kept values, right before the backward pass first needs it. The last matrix product of a segment is read only
 * by the addition to the residual stream. The gradient of an addition reads no values, so this product is never
 * recomputed. The values of the last segment are kept, because the backward pass begins there.
 *
 * All operations are pure, so every output is the same bit for bit. Each copy is listed where it is needed; an engine
 * must keep that order and must not merge equal nodes.
 */
export function recomputeActivations(graph: Graph, { forwardNodes, from }: RecomputeOptions): Graph {
  const before = new Set(graph.nodes.slice(0, forwardNodes));
  const forward = liveNodes(graph).filter((node) => before.has(node));
  const segments = segmentsOf(forward, from);
  const kept = tensorsBetween(forward, segments);
  const last = Math.max(0, ...segments.values());
  const again = new Map<Tensor, Tensor>();

  const remake = (tensor: Tensor, copy: GraphCopy): Tensor => {
    const { node } = tensor;
    const segment = node === null ? undefined : segments.get(node);
    if (node === null || segment === undefined || segment === last || kept.has(tensor))
      return copy.of(tensor);
    const known = again.get(tensor);
    if (known !== undefined) return known;
    const inputs = node.inputs.map((input) => remake(input, copy));
    const outputs = copy.graph.repeat(node, inputs);
    for (const [i, output] of node.outputs.entries()) again.set(output, outputs[i]!);
    return again.get(tensor)!;
  };

  return rewriteGraph(graph, (node, copy) =>
    copy.add(node, segments.has(node) ? undefined : (tensor) => remake(tensor, copy)),
  );
}

/** Returns the segment of every node of the forward pass, counted from 0. */
function segmentsOf(forward: readonly GraphNode[], from: Tensor): Map<GraphNode, number> {
  const lastRead = new Map<Tensor, number>();
  for (const [index, { inputs }] of forward.entries()) for (const input of inputs) lastRead.set(input, index);
  const stream = new Set([from]);
  const live = new Set<Tensor>();
  const segments = new Map<GraphNode, number>();
  let segment = 0;
  for (const [index, node] of forward.entries()) {
    segments.set(node, segment);
    if (!node.inputs.some((input) => stream.has(input))) continue;
    for (const input of node.inputs) if (lastRead.get(input) === index) live.delete(input);
    for (const output of node.outputs) {
      stream.add(output);
      if ((lastRead.get(output) ?? index) > index) live.add(output);
    }
    const [only] = node.outputs;
    // Start a new segment only at the residual stream, which has several readers. A tensor with one reader is a link in
    // a chain of operations, and a cut there saves no memory.
    if (live.size === 1 && live.has(only!) && readers(forward, only!) > 1) segment++;
  }
  return segments;
}

function readers(forward: readonly GraphNode[], tensor: Tensor): number {
  return forward.filter(({ inputs }) => inputs.includes(tensor)).length;
}

/** Returns the tensors that one segment of the forward pass computes and another segment reads. */
function tensorsBetween(
  forward: readonly GraphNode[],
  segments: ReadonlyMap<GraphNode, number>,
): Set<Tensor> {
  const between = new Set<Tensor>();
  for (const node of forward) {
    for (const input of node.inputs) {
      if (input.node !== null && segments.get(input.node) !== segments.get(node)) between.add(input);
    }
  }
  return between;
}
