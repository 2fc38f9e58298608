import { expect, it } from 'vitest';
import { Permits } from '../../../../common/limits/permits.ts';
import { RangeBuffers, RangePool } from '../../../../net/blobs/range-buffers.ts';

const never = new AbortController().signal;

it('gives a number of permits per key, and queues the other calls in order', async () => {
  const permits = new Permits(2);
  const order: string[] = [];
  const [first, second] = await Promise.all([permits.take('a', never), permits.take('a', never)]);
  await permits.take('b', never);
  const third = permits.take('a', never).then((release) => {
    order.push('third');
    return release;
  });
  const fourth = permits.take('a', never).then((release) => {
    order.push('fourth');
    return release;
  });
  expect(order).toEqual([]);
  first!();
  first!();
  (await third)();
  await fourth;
  expect(order).toEqual(['third', 'fourth']);
  second!();
});

it('removes an aborted call from the queue without losing a permit', async () => {
  const permits = new Permits(1);
  const release = await permits.take('a', never);
  const controller = new AbortController();
  const aborted = permits.take('a', controller.signal);
  const waiting = permits.take('a', never);
  controller.abort();
  await expect(aborted).rejects.toBe(controller.signal.reason);
  release();
  (await waiting)();
  await permits.take('a', never);
});

it('creates buffers up to a limit, reuses them, and makes further calls wait', async () => {
  const buffers = new RangeBuffers({ most: 2 }, { pool: new RangePool() });
  const [a, b] = await Promise.all([buffers.take(never), buffers.take(never)]);
  const controller = new AbortController();
  const aborted = buffers.take(controller.signal);
  const waiting = buffers.take(never);
  controller.abort();
  await expect(aborted).rejects.toBe(controller.signal.reason);
  buffers.give(a!.subarray(3, 5));
  const again = await waiting;
  expect(again.buffer).toBe(a!.buffer);
  expect(again.length).toBe(a!.length);
  buffers.give(b!);
  expect((await buffers.take(never)).buffer).toBe(b!.buffer);
});

it('reuses the buffers of one blob for the next, and keeps only as many as one holder needs', async () => {
  const pool = new RangePool();
  const blob = () => new RangeBuffers({ most: 100 }, { pool });
  const takeAll = (buffers: RangeBuffers) =>
    Promise.all(Array.from({ length: 100 }, () => buffers.take(never)));
  const first = blob();
  const used = await takeAll(first);
  for (const buffer of used) first.give(buffer);
  const again = await takeAll(blob());
  const known = new Set(used.map(({ buffer }) => buffer));
  const kept = again.filter(({ buffer }) => known.has(buffer)).length;
  expect(kept).toBeGreaterThan(0);
  expect(kept).toBeLessThan(100);
  expect(new Set(again.map(({ buffer }) => buffer)).size).toBe(100);
});
