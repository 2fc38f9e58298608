import type { Graph, GraphNode, Tensor } from '../graph.ts';
import { concat, slice } from '../ops/layout.ts';
import { type GraphCopy, rewriteGraph } from './graph-copy.ts';
import { liveNodes } from './live-nodes.ts';

type Gemm = GraphNode<'gemm'>;
type Write = (copy: GraphCopy) => void;

/** A matrix product is thin if its wide side is at least this many times its narrow side. */
const THIN = 4;

/**
 * Joins thin matrix products that share their wide operand or add to the same sum, such as the LoRA branches of modules
 * that read the same x (queries, keys and values; gate and up). At a small rank, such a product takes about as long as
 * one pass over its [tokens, width] matrix. A joint product makes one pass for all of them. There are two kinds:
 *
 * - forward: x·A₁ᵀ and x·A₂ᵀ become x·[A₁; A₂]ᵀ
 * - gradient of x: … + du₁·A₁ + … + du₂·A₂ becomes … + [du₁ du₂]·[A₁; A₂], which is added where du₂·A₂ was
 *
 * Gradients dA = duᵀ·x stay separate, because with slices of a joint gradient, onnxruntime postponed so much of the
 * backward pass that gradient checkpointing saved nothing.
 *
 * Results differ at most by rounding.
 */
export function joinThinProducts(graph: Graph): Graph {
  const nodes = liveNodes(graph);
  const gemms = nodes.filter(isPlainGemm);
  const adapters = new Set(graph.inputs.values());
  const readers = readersOf(nodes);
  const results = new Set(graph.outputs.values());
  const writes = new Map<GraphNode, Write>();
  const put = (node: Gemm, write: Write) => writes.set(node as unknown as GraphNode, write);

  for (const group of groups(gemms, (gemm) => forwardKey(gemm, adapters))) joinForward(group, put);
  const sums = sumsOf(gemms, (tensor) => readers(tensor) === 1 && !results.has(tensor));
  for (const group of groups(gemms, (gemm) => termKey(gemm, adapters, sums))) joinTerms(group, put);

  return rewriteGraph(graph, (node, copy) => {
    const write = writes.get(node);
    if (write === undefined) copy.add(node);
    else write(copy);
  });
}

function isPlainGemm(node: GraphNode): node is GraphNode & Gemm {
  return node.operation === 'gemm' && (node as unknown as Gemm).attributes.beta === 1;
}

/** Returns a function that counts the nodes that read a tensor. */
function readersOf(nodes: readonly GraphNode[]): (tensor: Tensor) => number {
  const counts = new Map<Tensor, number>();
  for (const { inputs } of nodes) for (const input of inputs) counts.set(input, (counts.get(input) ?? 0) + 1);
  return (tensor) => counts.get(tensor) ?? 0;
}

/** Groups matrix products by key, and keeps their order. Leaves out groups of one product. */
function groups(gemms: readonly Gemm[], keyOf: (gemm: Gemm) => string | null): Gemm[][] {
  const found = Map.groupBy(gemms, keyOf);
  found.delete(null);
  return [...found.values()].filter((group) => group.length > 1);
}

function keyOf(gemm: Gemm, shared: Tensor): string {
  return `${shared.id} ${JSON.stringify(gemm.attributes)}`;
}

/**
 * Returns a key that is equal for products x·Aᵀ that can be joined with each other; null for any other product.
 */
function forwardKey(gemm: Gemm, adapters: ReadonlySet<Tensor>): string | null {
  const { inputs, attributes } = gemm;
  const [x, a] = inputs as readonly [Tensor, Tensor];
  const fits = inputs.length === 2 && !attributes.transposeA && attributes.transposeB && adapters.has(a);
  return fits && isThin(a.shape[0]!, x.shape[1]!) ? keyOf(gemm, x) : null;
}

/**
 * Returns a key that is equal for products du·A that can be joined with each other, because they are added to the same
 * sum; null for any other product.
 */
function termKey(gemm: Gemm, adapters: ReadonlySet<Tensor>, sums: ReadonlyMap<Gemm, Tensor>): string | null {
  const { inputs, attributes } = gemm;
  const [du, a] = inputs as readonly [Tensor, Tensor];
  const fits = inputs.length === 3 && !attributes.transposeA && !attributes.transposeB && adapters.has(a);
  return fits && isThin(du.shape[1]!, a.shape[1]!) ? keyOf(gemm, sums.get(gemm)!) : null;
}

function isThin(narrow: number, wide: number): boolean {
  return THIN * narrow <= wide;
}

/**
 * Maps each product to the result of the chain of additions that the product belongs to. In a chain, the result of an
 * addition is read only by the next addition.
 */
function sumsOf(gemms: readonly Gemm[], isReadOnce: (tensor: Tensor) => boolean): Map<Gemm, Tensor> {
  const sums = new Map<Gemm, Tensor>();
  const made = new Map(gemms.map((gemm) => [gemm.outputs[0]!, gemm]));
  for (const gemm of gemms.toReversed()) {
    const [result] = gemm.outputs;
    const sum = sums.get(gemm) ?? result!;
    sums.set(gemm, sum);
    const [, , added] = gemm.inputs;
    if (added !== undefined && made.has(added) && isReadOnce(added)) sums.set(made.get(added)!, sum);
  }
  return sums;
}

type Put = (node: Gemm, write: Write) => void;

function joinForward(group: readonly Gemm[], put: Put): void {
  const [first, ...others] = group as readonly [Gemm, ...Gemm[]];
  put(first, (copy) => {
    const [x] = first.inputs;
    const a = joined(copy, group, 1, 0);
    const u = product(copy, first, [copy.of(x!), a], [x!.shape[0]!, a.shape[0]!]);
    share(copy, group, u, 1);
  });
  for (const other of others) put(other, () => {});
}

function joinTerms(group: readonly Gemm[], put: Put): void {
  const last = group.at(-1)!;
  put(last, (copy) => {
    const operands = [joined(copy, group, 0, 1), joined(copy, group, 1, 0), copy.of(last.inputs[2]!)];
    copy.replace(last as unknown as GraphNode, [product(copy, last, operands, last.outputs[0]!.shape)]);
  });
  for (const other of group.slice(0, -1))
    put(other, (copy) => copy.replace(other as unknown as GraphNode, [copy.of(other.inputs[2]!)]));
}

/** Concatenates, along an axis, the operand with the index `operand` of all products. */
function joined(copy: GraphCopy, group: readonly Gemm[], operand: number, axis: number): Tensor {
  return concat(
    group.map(({ inputs }) => copy.of(inputs[operand]!)),
    axis,
  );
}

function product(copy: GraphCopy, like: Gemm, operands: readonly Tensor[], shape: readonly number[]): Tensor {
  return copy.graph.apply('gemm', operands, like.attributes, [{ shape }], null)[0]!;
}

/** Replaces each product by its slice of the joint result. */
function share(copy: GraphCopy, group: readonly Gemm[], whole: Tensor, axis: number): void {
  let start = 0;
  for (const gemm of group) {
    const end = start + gemm.outputs[0]!.shape[axis]!;
    copy.replace(gemm as unknown as GraphNode, [slice(whole, axis, start, end)]);
    start = end;
  }
}
