import { type Graph, requireDType, type Tensor } from '../graph.ts';
import { type Shape, shapeError } from '../shapes.ts';

export function zeros(graph: Graph, shape: Shape): Tensor {
  return graph.apply('zeros', [], { shape: [...shape] }, [{ shape }], () => {})[0]!;
}

/**
 * Looks up row ids[n] of the table for every n: table [V, C], ids [N] int64, 0 ≤ id < V → [N, C]. The gradient of row n
 * of the result is added to row ids[n] of the table's gradient. An id out of range fails the run.
 * @throws SwarmError GRAPH_SHAPE
 */
export function gatherRows(table: Tensor, ids: Tensor): Tensor {
  requireDType('gatherRows', table, 'float32');
  requireDType('gatherRows', ids, 'int64');
  if (table.shape.length !== 2 || ids.shape.length !== 1) {
    throw shapeError('gatherRows', 'it needs a table [V, C] and ids [N]', table.shape, ids.shape);
  }
  const shape = [ids.shape[0]!, table.shape[1]!];
  return table.graph.apply('gatherRows', [table, ids], {}, [{ shape }], (backward) =>
    backward.contribute(0, (sum) =>
      scatterAddRows(sum ?? zeros(table.graph, table.shape), ids, backward.gradient),
    ),
  )[0]!;
}

/**
 * Adds rows[n] to row ids[n] of base, for every n in order: base [V, C], ids [N] int64, rows [N, C] → [V, C].
 * @throws SwarmError GRAPH_SHAPE
 */
export function scatterAddRows(base: Tensor, ids: Tensor, rows: Tensor): Tensor {
  requireDType('scatterAddRows', base, 'float32');
  requireDType('scatterAddRows', ids, 'int64');
  requireDType('scatterAddRows', rows, 'float32');
  const wanted = `${ids.shape[0]},${base.shape[1]}`;
  if (base.shape.length !== 2 || ids.shape.length !== 1 || rows.shape.join() !== wanted) {
    throw shapeError(
      'scatterAddRows',
      'it needs base [V, C], ids [N] and rows [N, C]',
      base.shape,
      ids.shape,
      rows.shape,
    );
  }
  return base.graph.apply('scatterAddRows', [base, ids, rows], {}, [{ shape: base.shape }], (backward) => {
    backward.add(0, () => backward.gradient);
    backward.add(2, () => gatherRows(backward.gradient, ids));
  })[0]!;
}
