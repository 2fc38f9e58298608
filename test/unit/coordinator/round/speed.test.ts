import fc from 'fast-check';
import { expect, test } from 'vitest';
import { SPEED_GROWTH, speedAfter } from '../../../../coordinator/round/speed.ts';
import { expectedTokens } from '../../../../verify/merge/expected-tokens.ts';

test('the first update measures the speed, and later ones raise it by half at most', () => {
  expect(speedAfter(0, { tokens: 500, ms: 250, isLate: false })).toBe(2000);
  expect(speedAfter(100, { tokens: 500, ms: 0, isLate: false })).toBe(150);
  expect(speedAfter(100, { tokens: 120, ms: 1000, isLate: false })).toBe(120);
  expect(speedAfter(100, { tokens: 1, ms: 1000, isLate: false })).toBe(1);
});

test('updates that were held back never raise the speed', () => {
  expect(speedAfter(100, { tokens: 500, ms: 1, isLate: true })).toBe(100);
  expect(speedAfter(100, { tokens: 50, ms: 1000, isLate: true })).toBe(50);
});

test('no sequence of deliveries raises the speed by more than half per round (property)', () => {
  const delivery = fc.record({
    tokens: fc.integer({ min: 1, max: 1e9 }),
    ms: fc.integer({ min: 0, max: 1e6 }),
    isLate: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 1e6 }), fc.array(delivery, { maxLength: 20 }), (first, given) => {
      let speed = first;
      for (const one of given) speed = speedAfter(speed, one);
      const onTime = given.filter(({ isLate }) => !isLate).length;
      expect(speed).toBeLessThanOrEqual(first * SPEED_GROWTH ** onTime * 1.000001);
      expect(speed).toBeGreaterThan(0);
    }),
  );
});

test('expected tokens follow from the assigned steps and the data, not from what a node claims', () => {
  const manifest = { data: { rows: 200, tokens: 5000 }, training: { batchSize: 8 } };
  expect(expectedTokens(10, manifest as Parameters<typeof expectedTokens>[1])).toBe(10 * 8 * 25);
});
