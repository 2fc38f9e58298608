import { expect, it } from 'vitest';
import { DownloadPace } from '../../../cli/views/download-pace.ts';

const PIECE = 1_000_000;
const TOTAL = 6.5 * PIECE;

/** Asks twice a second, as the screen of a node does. */
function estimates({ until, bytesAt }: { until: number; bytesAt: (seconds: number) => number }) {
  const pace = new DownloadPace();
  return Array.from({ length: until * 2 }, (_, i) => {
    const bytes = Math.min(TOTAL, bytesAt(i / 2));
    return pace.next({ bytes, total: TOTAL }, i * 500);
  }).flatMap((one) => one ?? []);
}

it('has a speed near the limit, and a time left that never rises, if pieces arrive every 10 s', () => {
  // A small file comes first. The limit lets the first piece pass at once, and each piece takes 0.7 s.
  const bytesAt = (seconds: number): number => {
    const begun = Math.floor(Math.max(0, seconds - 0.3) / 10);
    const part = Math.min(1, (Math.max(0, seconds - 0.3) % 10) / 0.7);
    return 20_000 + PIECE * (begun + part);
  };
  const known = estimates({ until: 60, bytesAt });
  expect(known.length).toBeGreaterThan(90);
  for (const { bytesPerSecond } of known) expect(Math.abs(bytesPerSecond - 100_000)).toBeLessThan(6_000);
  const left = known.map(({ secondsLeft }) => secondsLeft);
  for (const [i, seconds] of left.slice(1).entries()) expect(seconds).toBeLessThan(left[i]! + 1);
  expect(left[0]).toBeGreaterThan(40);
  expect(left.at(-1)).toBeLessThan(10);
});

it('has the speed of a download without pauses', () => {
  const known = estimates({ until: 6, bytesAt: (seconds) => seconds * PIECE });
  expect(known.length).toBeGreaterThan(2);
  for (const { bytesPerSecond } of known) expect(bytesPerSecond).toBeCloseTo(PIECE, -4);
});

it('notices that a download has stalled, and that it has started again', () => {
  const pace = new DownloadPace();
  const next = (pieces: number, seconds: number) =>
    pace.next({ bytes: pieces * PIECE, total: TOTAL }, seconds * 1000);
  for (const seconds of [0, 0.5]) expect(next(1, seconds)).toBeNull();
  next(2, 1);
  expect(next(2, 1.5)).toEqual({ bytesPerSecond: PIECE, secondsLeft: 4 });
  expect(next(2, 99)!.bytesPerSecond).toBeLessThan(20_000);
  expect(next(2, 99)!.secondsLeft).toBeGreaterThan(400);
  expect(next(1, 100)).toBeNull();
});
