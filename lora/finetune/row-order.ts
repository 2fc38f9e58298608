import { SeededRandom } from '../data/seeded-random.ts';

/**
 * Yields row numbers without end. Every epoch contains all rows, in an order that depends on seed and epoch. The
 * sequence can start anywhere, so that a resumed run continues with the next row.
 *
 * @param rows number of rows, at least 1
 * @param taken rows already trained on, over all epochs
 */
export function* rowOrder(rows: number, seed: number, taken: number): Generator<number, never, undefined> {
  const first = Math.floor(taken / rows);
  for (let epoch = first; ; epoch++) {
    const order = new SeededRandom(seed, epoch).shuffle(Array.from({ length: rows }, (_, row) => row));
    yield* epoch === first ? order.slice(taken % rows) : order;
  }
}
