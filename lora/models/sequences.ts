import type { Graph } from '../graph/graph.ts';
import { attention } from '../graph/ops.ts';
import type { SequenceInputs } from './architecture.ts';
import { modelError } from './errors.ts';

/** A row of T tokens, which may hold several documents one after the other. */
export interface SequenceRow {
  /** T token ids. */
  readonly ids: ArrayLike<number>;
  /**
   * T segment numbers. Consecutive tokens with the same number form a segment, and a token sees only the earlier tokens
   * of its segment.
   */
  readonly segments: ArrayLike<number>;
}

/** Declares the inputs `ids` and `positions` of a forward pass over `batch` rows of `length` tokens. */
export function sequenceInputs(graph: Graph, batch: number, length: number): SequenceInputs {
  const positions = graph.input('positions', [batch, length], 'int64');
  return {
    batch,
    length,
    positionCount: length,
    ids: graph.input('ids', [batch * length], 'int64'),
    positions,
    attend: (q, k, v, layer) => attention(q, k, v, { ...layer, positions }),
  };
}

export interface SequenceFeeds extends Record<string, BigInt64Array> {
  ids: BigInt64Array;
  positions: BigInt64Array;
}

/**
 * Makes the feeds for `sequenceInputs(graph, rows.length, length)`. Positions restart at 0 with every segment, so the
 * attention mask can be computed from the positions (`causalMask`).
 *
 * @throws SwarmError SEQUENCE_LENGTH if a row is not exactly `length` tokens long
 */
export function sequenceFeeds(rows: readonly SequenceRow[], length: number): SequenceFeeds {
  const ids = new BigInt64Array(rows.length * length);
  const positions = new BigInt64Array(rows.length * length);
  rows.forEach((row, r) => {
    if (row.ids.length !== length || row.segments.length !== length)
      throw modelError(
        'SEQUENCE_LENGTH',
        `row ${r} has ${row.ids.length} ids and ${row.segments.length} segment numbers, expected ${length} of each`,
        { row: r, ids: row.ids.length, segments: row.segments.length, expected: length },
      );
    let start = 0;
    for (let t = 0; t < length; t++) {
      if (t > 0 && row.segments[t] !== row.segments[t - 1]) start = t;
      const token = r * length + t;
      ids[token] = BigInt(row.ids[t]!);
      positions[token] = BigInt(t - start);
    }
  });
  return { ids, positions };
}
