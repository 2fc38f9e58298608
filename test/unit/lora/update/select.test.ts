import fc from 'fast-check';
import { expect, test } from 'vitest';
import { NON_FINITE, selectLargest } from '../../../../lora/update/select.ts';
import { randomValues, VALUE_KINDS } from '../../../utils/swarm/updates.ts';

const select = (values: Float32Array, start: number, length: number, kept: number) => {
  const positions = new Uint32Array(4096);
  const count = selectLargest(new Uint32Array(values.buffer), start, length, kept, positions);
  return count === NON_FINITE ? NON_FINITE : [...positions.subarray(0, count)];
};

/** Selects by sorting: largest magnitudes first, the lower position first among equal ones. */
const expected = (values: Float32Array, start: number, length: number, kept: number) =>
  [...values.subarray(start, start + length).keys()]
    .sort((a, b) => Math.abs(values[start + b]!) - Math.abs(values[start + a]!) || a - b)
    .slice(0, kept)
    .sort((a, b) => a - b);

test('selects the same values as sorting, for every distribution and number kept', () => {
  const cases = fc.record({
    kind: fc.constantFrom(...VALUE_KINDS),
    seed: fc.integer(),
    start: fc.nat(9),
    length: fc.oneof(fc.integer({ min: 1, max: 50 }), fc.integer({ min: 51, max: 4096 })),
    share: fc.double({ min: 0, max: 1, noNaN: true }),
  });
  fc.assert(
    fc.property(cases, ({ kind, seed, start, length, share }) => {
      const kept = Math.max(1, Math.round(share * length));
      const values = randomValues(start + length, kind, seed);
      expect(select(values, start, length, kept)).toEqual(expected(values, start, length, kept));
    }),
    { numRuns: 150 },
  );
});

test('orders neighbouring floats, subnormal floats and signed zeros correctly', () => {
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom(0, -0, 1e-45, -3e-45, 1.17549435e-38, 1, -1.0000001, 1.0000002), {
        minLength: 1,
        maxLength: 60,
      }),
      fc.nat(59),
      (list, some) => {
        const values = Float32Array.from(list);
        const kept = 1 + (some % values.length);
        expect(select(values, 0, values.length, kept)).toEqual(expected(values, 0, values.length, kept));
      },
    ),
  );
});

test.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])(
  'refuses %s at any position',
  (bad) => {
    for (const position of [0, 100, 4095]) {
      const values = randomValues(4096, 'normal', 1);
      values[position] = bad;
      expect(select(values, 0, 4096, 64), `at ${position}`).toBe(NON_FINITE);
    }
  },
);
