import fc from 'fast-check';
import { expect, it } from 'vitest';
import { rowOrder } from '../../../../lora/finetune/row-order.ts';

function take(rows: number, seed: number, taken: number, count: number): number[] {
  const order = rowOrder(rows, seed, taken);
  return Array.from({ length: count }, () => order.next().value);
}

it('has all rows in each epoch, and can continue from any position', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 40 }), fc.nat(1000), fc.nat(120), (rows, seed, taken) => {
      const all = take(rows, seed, 0, 4 * rows + taken);
      for (const epoch of [0, 1, 2]) {
        const one = all.slice(epoch * rows, (epoch + 1) * rows);
        expect(one.toSorted((a, b) => a - b)).toEqual(Array.from({ length: rows }, (_, i) => i));
      }
      expect(take(rows, seed, taken, 4 * rows)).toEqual(all.slice(taken));
    }),
  );
});
