import { ancestorNodes } from '../gradients.ts';
import type { GraphNode, Tensor } from '../graph.ts';
import type { Operation, OperationAttributes } from '../operations.ts';
import {
  add,
  addmm,
  divide,
  gatherRows,
  geluTanh,
  layerNorm,
  multiply,
  negate,
  rmsNorm,
  sigmoid,
  silu,
  subtract,
} from '../ops.ts';

type Builder<K extends Operation> = (inputs: readonly Tensor[], attributes: OperationAttributes[K]) => Tensor;

/** Builders of the operations for which row n of the result depends only on row n of the operands. */
const ROW_WISE: { readonly [K in Operation]?: Builder<K> } = {
  add: ([a, b]) => add(a!, b!),
  subtract: ([a, b]) => subtract(a!, b!),
  multiply: ([a, b]) => multiply(a!, b!),
  divide: ([a, b]) => divide(a!, b!),
  negate: ([x]) => negate(x!),
  sigmoid: ([x]) => sigmoid(x!),
  silu: ([x]) => silu(x!),
  geluTanh: ([x]) => geluTanh(x!),
  rmsNorm: ([x, weight], { epsilon }) => rmsNorm(x!, weight!, epsilon),
  layerNorm: ([x, weight, bias], { epsilon }) => layerNorm(x!, weight!, bias!, epsilon),
  gemm: ([a, b, c], attributes) => addmm(c ?? null, a!, b!, { ...attributes, scale: attributes.alpha }),
};

/**
 * Selects rows of a matrix, with gradients: x [N, C], ids [S] int64 → [S, C], where row s of the result is row ids[s]
 * of x. Gives the same result as gatherRows, but rebuilds the row-wise operations that lead to x so that they compute
 * only these rows. In a transformer, these are all operations after the attention of the last block, whose keys and
 * values need all rows. A value of which all rows are needed is not rebuilt. The selected rows are gathered from it.
 *
 * Call this before differentiation, which uses the gradient rules of the rebuilt operations. x itself becomes dead
 * unless another node reads it.
 * @throws SwarmError GRAPH_SHAPE, GRAPH_DTYPE
 */
export function selectRows(x: Tensor, ids: Tensor): Tensor {
  const whole = neededWhole(x);
  const made = new Map<Tensor, Tensor>();
  const select = (tensor: Tensor): Tensor => {
    const known = made.get(tensor);
    if (known !== undefined) return known;
    const rows = whole.has(tensor) ? null : rowOperands(tensor);
    const selected = rows === null ? gatherRows(tensor, ids) : built(tensor.node!, rows, select);
    made.set(tensor, selected);
    return selected;
  };
  return select(x);
}

/** Returns the tensors of which all rows are needed, even if only some rows of x are computed. */
function neededWhole(x: Tensor): Set<Tensor> {
  const whole = new Set<Tensor>();
  for (const node of ancestorNodes(x.graph.nodes, x).reverse()) {
    const selected = node.outputs.some((output) => whole.has(output)) ? null : rowOperands(node.outputs[0]!);
    for (const [i, input] of node.inputs.entries()) if (!selected?.has(i)) whole.add(input);
  }
  return whole;
}

/**
 * Returns the indices of the operands that a node reads row by row: row n of the result depends on row n of the
 * operand. Returns null if the node that computes the matrix is not row-wise.
 */
function rowOperands(tensor: Tensor): Set<number> | null {
  const { node, shape } = tensor;
  if (node === null || node.outputs[0] !== tensor || shape.length !== 2) return null;
  if (ROW_WISE[node.operation] === undefined) return null;
  const isProduct = node.operation === 'gemm';
  if (isProduct && (node as unknown as GraphNode<'gemm'>).attributes.transposeA) return null;
  // Rows are selected only from operands with as many rows as the result. Other operands, such as a bias, apply to all
  // rows.
  const belongs = (input: Tensor, i: number) =>
    !(isProduct && i === 1) && input.shape.length === 2 && input.shape[0] === shape[0];
  return new Set([...node.inputs.entries()].filter(([i, input]) => belongs(input, i)).map(([i]) => i));
}

function built(node: GraphNode, rows: ReadonlySet<number>, select: (tensor: Tensor) => Tensor): Tensor {
  const build = ROW_WISE[node.operation] as Builder<Operation>;
  return build(
    node.inputs.map((input, i) => (rows.has(i) ? select(input) : input)),
    node.attributes,
  );
}
