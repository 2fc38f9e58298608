import fc from 'fast-check';
import { expect, test } from 'vitest';
import { drawnPoints } from '../../../../monitor/web/parts/thin.ts';

test('a short line is drawn as it is', () => {
  expect(drawnPoints(3, [[1, null, 2]])).toEqual([0, 1, 2]);
});

test('a long line keeps its ends, its lowest and its highest value', () => {
  const value = fc.option(fc.double({ noNaN: true }), { nil: null });
  fc.assert(
    fc.property(fc.array(value, { minLength: 2_000, maxLength: 5_000 }), (values) => {
      const drawn = drawnPoints(values.length, [values]);
      expect(drawn.length).toBeLessThanOrEqual(402);
      expect(drawn).toEqual([...drawn].sort((a, b) => a - b));
      expect([drawn[0], drawn.at(-1)]).toEqual([0, values.length - 1]);
      const known = values.filter((one) => one !== null);
      const shown = drawn.map((i) => values[i]!).filter((one) => one !== null);
      const range = (all: readonly number[]) => [Math.min(...all), Math.max(...all)];
      expect(range(shown)).toEqual(range(known));
    }),
    { numRuns: 5 },
  );
});
