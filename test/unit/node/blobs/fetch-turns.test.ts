import { expect, test } from 'vitest';
import { FETCH_TURN_MS, FetchTurns } from '../../../../node/blobs/fetch-turns.ts';
import { VirtualClock } from '../../../utils/virtual/virtual-clock.ts';

function setUp() {
  const clock = new VirtualClock(0);
  const turns = new FetchTurns({ clock });
  const steps: string[] = [];
  const { signal } = new AbortController();
  /** Fetches for `ms` in total. Like a real fetch, it continues where an aborted turn ended. */
  const fetch = (name: string, ms: number, own: AbortSignal = signal, coordinator = name) => {
    let left = ms;
    return turns.run({ digest: 'digest', coordinator }, own, async (turn) => {
      steps.push(`${name} begins`);
      const since = clock.monotonic();
      await new Promise<void>((resolve, reject) => {
        const cancel = clock.after(left, resolve);
        turn.addEventListener('abort', () => {
          cancel();
          left -= clock.monotonic() - since;
          steps.push(`${name} pauses`);
          reject(turn.reason);
        });
      });
      steps.push(`${name} ends`);
    });
  };
  return { clock, steps, fetch };
}

test('a slow fetch pauses for another job that waits for the same blob', async () => {
  const { clock, steps, fetch } = setUp();
  const all = Promise.all([fetch('slow', 1.5 * FETCH_TURN_MS), fetch('fast', 1_000)]);
  await clock.run(() => false, 3 * FETCH_TURN_MS);
  await all;
  expect(steps).toEqual([
    'slow begins',
    'slow pauses',
    'fast begins',
    'fast ends',
    'slow begins',
    'slow ends',
  ]);
});

test('a fetch that no other job waits for does not pause', async () => {
  const { clock, steps, fetch } = setUp();
  const fetched = fetch('slow', 5 * FETCH_TURN_MS);
  await clock.run(() => false, 6 * FETCH_TURN_MS);
  await fetched;
  expect(steps).toEqual(['slow begins', 'slow ends']);
});

test('a job that is aborted while it waits gives its place up', async () => {
  const { clock, steps, fetch } = setUp();
  const stop = new AbortController();
  const first = fetch('first', 1_000);
  const second = fetch('second', 1_000, stop.signal);
  const third = fetch('third', 1_000);
  stop.abort(new Error('stopped'));
  await expect(second).rejects.toBe(stop.signal.reason);
  await clock.run(() => false, 3_000);
  await Promise.all([first, third]);
  expect(steps).toEqual(['first begins', 'first ends', 'third begins', 'third ends']);
});

test('a fetch does not pause for a job of the same coordinator', async () => {
  const { clock, steps, fetch } = setUp();
  const all = Promise.all([fetch('a', 2 * FETCH_TURN_MS, undefined, 'c'), fetch('b', 1_000, undefined, 'c')]);
  await clock.run(() => false, 3 * FETCH_TURN_MS);
  await all;
  expect(steps).toEqual(['a begins', 'a ends', 'b begins', 'b ends']);
});
