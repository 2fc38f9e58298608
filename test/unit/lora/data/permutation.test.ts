import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MAX_ROWS, permutation, permutationKey } from '../../../../lora/data/permutation.ts';
import { withCode } from '../../../utils/source/codes.ts';

const key = permutationKey({ job: 'a'.repeat(64), round: 3, parent: 'b'.repeat(64), epoch: 0 });

describe('the permutation of a round', () => {
  it('contains every row exactly once', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 3000 }),
        fc.uint8Array({ minLength: 32, maxLength: 32 }),
        (rows, secret) => {
          const permute = permutation(rows, secret);
          const taken = Array.from({ length: rows }, (_, position) => permute(position)).sort(
            (a, b) => a - b,
          );
          expect(taken).toEqual(Array.from({ length: rows }, (_, i) => i));
        },
      ),
    );
  });

  it('depends only on job, round, parent and epoch', () => {
    const parts = { job: 'a'.repeat(64), round: 3, parent: 'b'.repeat(64), epoch: 0 };
    const order = (from: typeof parts) => {
      const permute = permutation(1000, permutationKey(from));
      return Array.from({ length: 1000 }, (_, i) => permute(i)).join();
    };
    expect(order({ ...parts })).toBe(order(parts));
    const others = [
      { ...parts, job: 'c'.repeat(64) },
      { ...parts, round: 4 },
      { ...parts, parent: 'c'.repeat(64) },
      { ...parts, epoch: 1 },
    ];
    expect(new Set([parts, ...others].map(order)).size).toBe(5);
  });

  it('is the same in all versions, so that nodes of different versions agree', () => {
    const permute = permutation(1000, key);
    expect([0, 1, 2, 3, 999].map(permute)).toMatchInlineSnapshot(`
      [
        881,
        607,
        448,
        457,
        30,
      ]
    `);
  });

  it('moves rows and separates neighbours as far as a random permutation', () => {
    const rows = 10_000;
    const permute = permutation(rows, key);
    let displacement = 0;
    let neighbours = 0;
    for (let i = 0; i < rows - 1; i++) {
      displacement += Math.abs(permute(i) - i) / rows;
      neighbours += Math.abs(permute(i + 1) - permute(i)) / rows;
    }
    // Two independent uniform numbers differ by a third on average.
    expect(displacement / rows).toBeCloseTo(1 / 3, 1);
    expect(neighbours / rows).toBeCloseTo(1 / 3, 1);
  });

  it('works at the largest size and refuses larger sizes and positions', () => {
    const permute = permutation(MAX_ROWS, key);
    expect(permute(MAX_ROWS - 1)).toBeLessThan(MAX_ROWS);
    expect(() => permutation(MAX_ROWS + 1, key)).toThrow(withCode('ROWS_COUNT'));
    expect(() => permutation(0, key)).toThrow(withCode('ROWS_COUNT'));
    for (const position of [-1, 1.5, 10]) {
      expect(() => permutation(10, key)(position)).toThrow(withCode('ROWS_POSITION'));
    }
  });
});
