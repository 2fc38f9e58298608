import type { Graph, GraphNode, Tensor } from '../graph.ts';
import { type GraphCopy, rewriteGraph } from './graph-copy.ts';
import { liveNodes } from './live-nodes.ts';

type Gemm = GraphNode<'gemm'>;

/** x·W + (x·U)·V, with `sum` added to it if there is one. */
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
 * The same graph in which x·W + (x·U)·V, a frozen weight W with a product of two small matrices beside it, is x·(W + U·V):
 * a LoRA branch and its base, forward and in the gradient of x. With many rows in x, the passes over results that adding the
 * branch to them takes cost more than those over the weight do. The sum is made where it is used and given up at once, each
 * time anew: kept, it would be another copy of the weights.
 *
 * Results differ in the order of rounding. Nothing is done where x has few rows.
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
    if (worthwhile) merge(copy, found);
    else copy.add(node);
  });
}

/**
 * How many different computations read a tensor or one that is equal to it. What is made twice, to save memory, is then
 * merged in both places or in none, and comes out the same to the bit.
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

/** Whether it is a product in which the left operand is as it is, added to its third operand as that is. */
function isPlainGemm(node: GraphNode | null | undefined): node is Gemm {
  if (node?.operation !== 'gemm') return false;
  const { transposeA, beta } = (node as unknown as Gemm).attributes;
  return !transposeA && beta === 1;
}

/**
 * Adding onto a result of N rows copies it and then reads and writes it once more; merging does that to the weight, forward
 * and backward alike: N·(in + out) against 2·in·out.
 */
function savesPasses({ x, base }: LowRankSum): boolean {
  const [rows, width] = x.shape as readonly [number, number];
  const out = base.outputs[0]!.shape[1]!;
  return rows * (width + out) > 2 * width * out;
}

function merge(copy: GraphCopy, { x, base, low, high, sum }: LowRankSum): void {
  const [w, u, v] = [base, low, high].map(({ inputs }) => inputs[1]!) as [Tensor, Tensor, Tensor];
  const { transposeB } = base.attributes;
  const [uIsTransposed, vIsTransposed] = [low.attributes.transposeB, high.attributes.transposeB];
  const alpha = low.attributes.alpha * high.attributes.alpha;
  // In the layout of the weight: to a transposed one (U·V)ᵀ = Vᵀ·Uᵀ is added.
  const merged = transposeB
    ? gemm(copy, w, [v, u, w], { transposeA: !vIsTransposed, transposeB: !uIsTransposed, alpha, beta: 1 })
    : gemm(copy, w, [u, v, w], { transposeA: uIsTransposed, transposeB: vIsTransposed, alpha, beta: 1 });
  const operands = sum === undefined ? [x] : [x, sum];
  const [left, ...rest] = operands.map((tensor) => copy.of(tensor)) as [Tensor, ...Tensor[]];
  const node: GraphNode = { ...(base as unknown as GraphNode), outputs: high.outputs };
  copy.replace(high as unknown as GraphNode, copy.graph.repeat(node, [left, merged, ...rest]));
}

/** A product that is shared with no equal one, of the shape of `like`. */
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
