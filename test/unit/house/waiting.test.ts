import { expect, it } from 'vitest';
import { sourcesIn } from '../../utils/source/sources.ts';

// vitest's functions for waiting give up after one second by default, which is too short on a busy machine.
it('tests wait with eventually and eventuallyHolds alone', () => {
  const waits = /\bexpect\.poll\(|\bvi\.(waitFor|waitUntil)\(/;
  expect(waits.test('await vi.waitFor(ready)')).toBe(true);
  const offenders = sourcesIn(['test']).filter(
    ({ path, text }) => waits.test(text) && path !== 'test/unit/house/waiting.test.ts',
  );
  expect(offenders.map(({ path }) => path)).toEqual([]);
});
