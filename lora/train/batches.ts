import type { Row } from '../data/row.ts';

/**
 * Groups rows into at most `count` batches of `size` rows. The last batch may be smaller. Reads no more rows than it
 * returns.
 */
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
