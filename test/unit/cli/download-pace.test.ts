import { expect, it } from 'vitest';
import { DownloadPace } from '../../../cli/views/download-pace.ts';

const PIECE = 1_000_000;
const TOTAL = 6.5 * PIECE;

/** Asks twice a second, as the screen of a node does, while a piece arrives every 10 s. */
function estimates({ until }: { until: number }) {
  const pace = new DownloadPace();
  return Array.from({ length: until / 500 }, (_, i) => {
    const now = i * 500;
    // A limit lets the first piece pass at once.
    const bytes = now < 300 ? 0 : (Math.floor((now - 300) / 10_000) + 1) * PIECE;
    return pace.next({ bytes, total: TOTAL }, now);
  });
}

it('has a speed near the limit, and a time left that never rises', () => {
  const known = estimates({ until: 60_000 }).flatMap((one) => one ?? []);
  expect(known.length).toBeGreaterThan(90);
  for (const { bytesPerSecond } of known) expect(bytesPerSecond).toBeCloseTo(100_000, -4);
  const left = known.map(({ secondsLeft }) => secondsLeft);
  expect(left).toEqual(left.toSorted((a, b) => b - a));
  expect(left[0]).toBeGreaterThan(40);
  expect(left.at(-1)).toBeLessThan(10);
});

it('notices that a download has stalled, and that it has started again', () => {
  const pace = new DownloadPace();
  const next = (pieces: number, seconds: number) =>
    pace.next({ bytes: pieces * PIECE, total: TOTAL }, seconds * 1000);
  expect(next(1, 0)).toBeNull();
  expect(next(2, 1)).toEqual({ bytesPerSecond: PIECE, secondsLeft: 4.5 });
  expect(next(2, 99)!.bytesPerSecond).toBeLessThan(20_000);
  expect(next(2, 99)!.secondsLeft).toBeGreaterThan(400);
  expect(next(1, 100)).toBeNull();
});
