import { SeededRandom } from '../data/seeded-random.ts';

/**
 * Numbers of rows without end, each epoch in another order that follows from the seed. It can start anywhere, so that a
 * run which was interrupted goes on with the very next row.
 *
 * @param rows how many there are, at least 1
 * @param taken how many have been taken already, over all epochs
 */
export function* rowOrder(rows: number, seed: number, taken: number): Generator<number, never, undefined> {
  const first = Math.floor(taken / rows);
  for (let epoch = first; ; epoch++) {
    const order = new SeededRandom(seed, epoch).shuffle(Array.from({ length: rows }, (_, row) => row));
    yield* epoch === first ? order.slice(taken % rows) : order;
  }
}
