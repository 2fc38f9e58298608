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

/** Operations of which row n of the result follows from row n of the operands alone, as they are built. */
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
 * Rows ids[s] of x for every s, with gradients, as gatherRows gives them: x [N, C], ids [S] int64 → [S, C]. What lies
 * between them and what mixes rows is computed for these rows only: of a transformer's last block everything after its
 * attention, whose keys and values come from all rows. A value that something needs in all rows is gathered from.
 *
 * It comes before differentiation: the rows of the result have the gradient rules of the operations that they are made
 * by. Of x itself nothing is computed unless something else reads it.
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

/** What has to be there in all rows for some rows of x: whatever does not lie between these and what mixes rows. */
function neededWhole(x: Tensor): Set<Tensor> {
  const whole = new Set<Tensor>();
  for (const node of ancestorNodes(x.graph.nodes, x).reverse()) {
    const selected = node.outputs.some((output) => whole.has(output)) ? null : rowOperands(node.outputs[0]!);
    for (const [i, input] of node.inputs.entries()) if (!selected?.has(i)) whole.add(input);
  }
  return whole;
}

/** Which operands of the node that made a matrix belong to it row by row; null where it is not made row by row. */
function rowOperands(tensor: Tensor): Set<number> | null {
  const { node, shape } = tensor;
  if (node === null || node.outputs[0] !== tensor || shape.length !== 2) return null;
  if (ROW_WISE[node.operation] === undefined) return null;
  const isProduct = node.operation === 'gemm';
  if (isProduct && (node as unknown as GraphNode<'gemm'>).attributes.transposeA) return null;
  // Whatever has no rows, or one, is the same for all of them.
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
