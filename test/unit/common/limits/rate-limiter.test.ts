import fc from 'fast-check';
import { expect, it } from 'vitest';
import { RateLimiter } from '../../../../common/limits/rate-limiter.ts';
import { ManualClock } from '../../../utils/manual-clock.ts';

it('lets a key use its quota at once and refills it evenly', () => {
  const clock = new ManualClock();
  const limiter = new RateLimiter({ clock });
  const quota = { calls: 5, perMs: 1000 };
  const take = (): boolean => limiter.take('key', quota);
  expect(Array.from({ length: 7 }, take)).toEqual([true, true, true, true, true, false, false]);
  clock.advance(199);
  expect(take()).toBe(false);
  clock.advance(1);
  expect([take(), take()]).toEqual([true, false]);
  clock.advance(1000);
  expect(Array.from({ length: 6 }, take)).toEqual([true, true, true, true, true, false]);
  expect(limiter.take('another', quota)).toBe(true);
});

it('lets at most twice the quota through in any window', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 20 }),
      fc.integer({ min: 10, max: 5000 }),
      fc.array(fc.integer({ min: 0, max: 400 }), { minLength: 1, maxLength: 200 }),
      (calls, perMs, waits) => {
        const clock = new ManualClock();
        const limiter = new RateLimiter({ clock });
        const passed: number[] = [];
        for (const wait of waits) {
          clock.advance(wait);
          if (limiter.take('key', { calls, perMs })) passed.push(clock.now());
        }
        for (const from of passed) {
          const inWindow = passed.filter((at) => at >= from && at < from + perMs).length;
          expect(inWindow).toBeLessThanOrEqual(2 * calls);
        }
      },
    ),
  );
});

it('remembers a key over its quota while any number of other keys call', () => {
  const limiter = new RateLimiter({ clock: new ManualClock() });
  const quota = { calls: 2, perMs: 1000 };
  const take = (): boolean => limiter.take('key', quota);
  expect([take(), take(), take()]).toEqual([true, true, false]);
  let refused = 0;
  for (let i = 0; i < 50_000; i++) {
    if (!limiter.take(`other ${i}`, quota)) refused++;
    expect(take()).toBe(false);
  }
  expect(refused).toBe(0);
});

it('remembers thousands of keys over their quotas', () => {
  const limiter = new RateLimiter({ clock: new ManualClock() });
  const quota = { calls: 1, perMs: 1000 };
  for (let i = 0; i < 4096; i++) expect(limiter.take(`key ${i}`, quota)).toBe(true);
  for (let i = 0; i < 20_000; i++) limiter.take(`other ${i}`, { calls: 10, perMs: 1000 });
  for (let i = 0; i < 4096; i++) expect(limiter.take(`key ${i}`, quota)).toBe(false);
});

it('neither grants nor takes calls when the clock is set forward or back', () => {
  for (const byMs of [-3_600_000, 3_600_000]) {
    const clock = new ManualClock();
    const limiter = new RateLimiter({ clock });
    const take = (): boolean => limiter.take('key', { calls: 2, perMs: 1000 });
    expect([take(), take(), take()]).toEqual([true, true, false]);
    clock.set(byMs);
    expect(take()).toBe(false);
    clock.advance(500);
    expect(take()).toBe(true);
  }
});
