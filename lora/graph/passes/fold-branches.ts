import type { Graph, GraphNode, Tensor } from '../graph.ts';
import { type GraphCopy, rewriteGraph } from './graph-copy.ts';
import { liveNodes } from './live-nodes.ts';

type Gemm = GraphNode<'gemm'>;

/** The nodes of x·W + (x·U)·V, or of x·W + (x·U)·V + `sum`. */
interface LowRankSum {
  readonly x: Tensor;
  /** The product with the frozen weight W. */
  readonly base: Gemm;
  /** x·U */
  readonly low: Gemm;
  /** (x·U)·V + base */
  readonly high: Gemm;
  readonly sum: Tensor | undefined;
}

/**
 * Rewrites x·W + (x·U)·V as x·(W + U·V), where W is a frozen weight and U·V a LoRA branch, both forward and in the
 * gradient of x. When x has many rows, adding the branch to the result costs more than adding U·V to the weight. The
 * sum W + U·V is computed for each use and freed immediately after it, because keeping it would take as much memory as
 * the weights.
 *
 * Results differ only by rounding. A matrix product of few rows stays unchanged.
 */
export function foldBranches(graph: Graph): Graph {
  const readers = readersOf(graph);
  const weights = new Set(graph.weights.values());

  return rewriteGraph(graph, (node, copy) => {
    const found = lowRankSum(node);
    const worthwhile =
      found !== null &&
      weights.has(found.base.inputs[1]!) &&
      readers(found.base.outputs[0]!) === 1 &&
      savesPasses(found);
    if (worthwhile) fold(copy, found);
    else copy.add(node);
  });
}

/**
 * Returns a function that counts how many different computations read a tensor. Equal computations count once, and
 * tensors that are computed in the same way share one count. Gradient checkpointing computes some values twice. Because
 * both copies have the same count, either both are folded or neither is, so they stay equal bit for bit.
 */
function readersOf(graph: Graph): (tensor: Tensor) => number {
  const known = new Map<Tensor, string>();
  const numbers = new Map<string, number>();
  const readers = new Map<string, Set<number>>();
  const classOf = (tensor: Tensor) => known.get(tensor) ?? `#${tensor.id}`;
  const read = (tensor: Tensor, by: number) => {
    const equal = classOf(tensor);
    if (!readers.has(equal)) readers.set(equal, new Set());
    readers.get(equal)!.add(by);
  };
  for (const node of liveNodes(graph)) {
    const key = `${node.operation}${JSON.stringify(node.attributes)}(${node.inputs.map(classOf)})`;
    const number = numbers.get(key) ?? numbers.size;
    numbers.set(key, number);
    for (const input of node.inputs) read(input, number);
    for (const [i, output] of node.outputs.entries()) known.set(output, `${number}.${i}`);
  }
  for (const output of graph.outputs.values()) read(output, Number.NaN);
  return (tensor) => readers.get(classOf(tensor))?.size ?? 0;
}

function lowRankSum(high: GraphNode): LowRankSum | null {
  if (!isPlainGemm(high)) return null;
  const [u, , c] = high.inputs;
  const [low, base] = [u?.node, c?.node];
  if (!isPlainGemm(low) || !isPlainGemm(base)) return null;
  const [x, , sum] = base.inputs;
  const fits = low.inputs.length === 2 && low.inputs[0] === x && base.attributes.alpha === 1;
  return fits ? { x: x!, base, low, high, sum } : null;
}

/** Returns whether a node is a product with an untransposed left operand and an unscaled addend. */
function isPlainGemm(node: GraphNode | null | undefined): node is Gemm {
  if (node?.operation !== 'gemm') return false;
  const { transposeA, beta } = (node as unknown as Gemm).attributes;
  return !transposeA && beta === 1;
}

/**
 * Returns whether folding saves memory traffic. Without folding, the branch is added to a result of N rows,
 * which moves N·out values in the forward pass and N·in values in the backward pass. With folding, it is
 * added to the weight, which moves in·out values in each of the two passes.
 */
function savesPasses({ x, base }: LowRankSum): boolean {
  const [rows, width] = x.shape as readonly [number, number];
  const out = base.outputs[0]!.shape[1]!;
  return rows * (width + out) > 2 * width * out;
}

function fold(copy: GraphCopy, { x, base, low, high, sum }: LowRankSum): void {
  const [w, u, v] = [base, low, high].map(({ inputs }) => inputs[1]!) as [Tensor, Tensor, Tensor];
  const { transposeB } = base.attributes;
  const [uIsTransposed, vIsTransposed] = [low.attributes.transposeB, high.attributes.transposeB];
  const alpha = low.attributes.alpha * high.attributes.alpha;
  // U·V is computed in the layout of the weight. For a transposed weight it is (U·V)ᵀ = Vᵀ·Uᵀ.
  const folded = transposeB
    ? gemm(copy, w, [v, u, w], { transposeA: !vIsTransposed, transposeB: !uIsTransposed, alpha, beta: 1 })
    : gemm(copy, w, [u, v, w], { transposeA: uIsTransposed, transposeB: vIsTransposed, alpha, beta: 1 });
  const operands = sum === undefined ? [x] : [x, sum];
  const [left, ...rest] = operands.map((tensor) => copy.of(tensor)) as [Tensor, ...Tensor[]];
  const node: GraphNode = { ...(base as unknown as GraphNode), outputs: high.outputs };
  copy.replace(high as unknown as GraphNode, copy.graph.repeat(node, [left, folded, ...rest]));
}

/**
 * Appends a matrix product whose result has the shape of `like`. Appends it even if the graph already has an
 * equal product, so that each use computes W + U·V itself and frees it immediately.
 */
function gemm(
  copy: GraphCopy,
  like: Tensor,
  inputs: readonly Tensor[],
  attributes: Gemm['attributes'],
): Tensor {
  const node: GraphNode<'gemm'> = { operation: 'gemm', attributes, inputs, outputs: [like], gradient: null };
  const operands = inputs.map((tensor) => copy.of(tensor));
  return copy.graph.repeat(node as unknown as GraphNode, operands)[0]!;
}
