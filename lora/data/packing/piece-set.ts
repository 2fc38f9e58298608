import { hashOf } from '../inspect/hash-table.ts';
import type { Row } from '../row.ts';
import type { Piece } from './pieces.ts';

/** The pieces of samples in packed rows. Two pieces with the same input tokens count as the same piece. */
export class PieceSet {
  readonly #keys = new Set<string>();

  constructor(rows: Iterable<Row>) {
    for (const row of rows) for (const { ids } of piecesOf(row)) this.#keys.add(keyOf(ids));
  }

  has({ ids }: Piece): boolean {
    return this.#keys.has(keyOf(ids));
  }
}

/** Yields the pieces of a packed row, as views of its arrays. */
export function* piecesOf({ ids, labels, segments }: Row): Generator<Pick<Row, 'ids' | 'labels'>> {
  for (let start = 0; start < ids.length && segments[start] !== 0; ) {
    let end = start + 1;
    while (end < ids.length && segments[end] === segments[start]) end++;
    yield { ids: ids.subarray(start, end), labels: labels.subarray(start, end) };
    start = end;
  }
}

/**
 * Returns a 64-bit hash as text. A training sample that happens to have the hash of a held-out sample is left out of the
 * training data. One sample less does no harm.
 */
function keyOf(ids: Iterable<number>): string {
  const { high, low } = hashOf(ids);
  return `${high}:${low}`;
}
