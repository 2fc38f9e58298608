import type { Row } from '../data/row.ts';

/** Rows in groups of `size`, `count` groups at most; the last one may be smaller. No row is taken that is not used. */
export async function* batches(
  rows: AsyncIterable<Row> | Iterable<Row>,
  size: number,
  count: number,
): AsyncGenerator<Row[], void, undefined> {
  if (count <= 0) return;
  let made = 0;
  let batch: Row[] = [];
  for await (const row of rows) {
    batch.push(row);
    if (batch.length < size) continue;
    yield batch;
    batch = [];
    if (++made === count) return;
  }
  if (batch.length > 0) yield batch;
}
