/** Computes the cost of running a graph from its shapes alone. Allocates nothing and reads no weight. */
import type { Graph, GraphNode, Tensor } from './graph.ts';
import type { Operation, OperationAttributes } from './operations.ts';
import { liveNodes } from './passes/live-nodes.ts';
import { elementCount } from './shapes.ts';

export interface GraphCost {
  /** Number of floating-point operations of all matrix products. A multiply-add counts as two operations. */
  readonly flops: number;
  /** Number of floating-point operations of those matrix products that are computed in float16. */
  readonly float16Flops: number;
  /** Bytes that all operations except matrix products read and write. */
  readonly trafficBytes: number;
  /** Number of operations, without views (`VIEWS`), which compute nothing. */
  readonly operations: number;
  /** Peak bytes of intermediate values and outputs. */
  readonly activationBytes: number;
  /** Bytes of the frozen weights that the graph reads. */
  readonly weightBytes: number;
  /** Bytes of the values that are fed at each run. */
  readonly inputBytes: number;
}

const BYTES = { float32: 4, int64: 8 } as const;

/** Operations whose result is their operand with another shape or name, so that the result needs no memory. */
const VIEWS: ReadonlySet<Operation> = new Set(['reshape', 'customGradient']);

/** Operations whose result may overwrite an operand of the same size that no later node reads. */
const IN_PLACE: ReadonlySet<Operation> = new Set([
  'add',
  'subtract',
  'multiply',
  'divide',
  'negate',
  'exp',
  'log',
  'sqrt',
  'sigmoid',
]);

/**
 * Computes the cost of a graph. The peak of memory assumes that a value is held from the node that makes it to the last
 * node that reads it, and that an output is held to the end. The true peak differs, because engines order nodes in
 * their own way and need memory for their kernels. Decision 080 has the measured difference.
 */
export function graphCost(graph: Graph): GraphCost {
  const nodes = liveNodes(graph);
  const read = new Set(nodes.flatMap((node) => node.inputs));
  const bytesOf = (tensors: Iterable<Tensor>) =>
    [...tensors].filter((tensor) => read.has(tensor)).reduce((sum, tensor) => sum + byteLength(tensor), 0);
  let flops = 0;
  let float16Flops = 0;
  let trafficBytes = 0;
  for (const node of nodes) {
    const products = productFlops(node);
    flops += products;
    if ((node.attributes as Partial<OperationAttributes['gemm']>).float16) float16Flops += products;
    if (products === 0 && !VIEWS.has(node.operation)) {
      for (const tensor of [...node.inputs, ...node.outputs]) trafficBytes += byteLength(tensor);
    }
  }
  return {
    flops,
    float16Flops,
    trafficBytes,
    operations: nodes.filter(({ operation }) => !VIEWS.has(operation)).length,
    activationBytes: peakBytes(nodes, new Set(graph.outputs.values())),
    weightBytes: bytesOf(graph.weights.values()),
    inputBytes: bytesOf(graph.inputs.values()),
  };
}

function peakBytes(nodes: readonly GraphNode[], outputs: ReadonlySet<Tensor>): number {
  const made = new Set(nodes.flatMap((node) => node.outputs));
  // Several tensors may share a buffer, which lives until all of them are dead.
  const bufferOf = new Map<Tensor, Tensor>();
  const readers = new Map<Tensor, number>();
  const buffer = (tensor: Tensor): Tensor => bufferOf.get(tensor) ?? tensor;
  const count = (tensor: Tensor, by: number) => readers.set(tensor, (readers.get(tensor) ?? 0) + by);
  for (const node of nodes) {
    const [input] = node.inputs;
    if (VIEWS.has(node.operation) && input && made.has(input)) bufferOf.set(node.outputs[0]!, buffer(input));
    for (const tensor of new Set(node.inputs)) if (made.has(tensor)) count(buffer(tensor), 1);
  }
  for (const tensor of outputs) if (made.has(tensor)) count(buffer(tensor), 1);

  let held = 0;
  let peak = 0;
  for (const node of nodes) {
    const operands = [...new Set(node.inputs)].filter((tensor) => made.has(tensor)).map(buffer);
    const fresh = node.outputs.filter((tensor) => buffer(tensor) === tensor);
    const [output] = fresh;
    const replaced =
      output && IN_PLACE.has(node.operation)
        ? operands.find((tensor) => readers.get(tensor) === 1 && byteLength(tensor) === byteLength(output))
        : undefined;
    // A result is never stored if no node reads it and it is not an output of the graph.
    for (const tensor of fresh) if ((readers.get(tensor) ?? 0) > 0) held += byteLength(tensor);
    if (replaced) held -= byteLength(replaced);
    peak = Math.max(peak, held);
    for (const tensor of operands) {
      count(tensor, -1);
      if (readers.get(tensor) === 0 && tensor !== replaced) held -= byteLength(tensor);
    }
  }
  return peak;
}

function productFlops(node: GraphNode): number {
  if (node.operation !== 'gemm' && node.operation !== 'batchedMatmul') return 0;
  const { transposeA } = node.attributes as OperationAttributes['gemm' | 'batchedMatmul'];
  const [a] = node.inputs as readonly [Tensor, ...Tensor[]];
  const depth = a.shape.at(transposeA ? -2 : -1)!;
  return 2 * depth * elementCount(node.outputs[0]!.shape);
}

function byteLength({ dtype, shape }: Tensor): number {
  return BYTES[dtype] * elementCount(shape);
}
