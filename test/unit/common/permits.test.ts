import { expect, test } from 'vitest';
import { Permits } from '../../../common/permits.ts';
import { RangeBuffers, RangePool } from '../../../net/blobs/range-buffers.ts';

const never = new AbortController().signal;

test('so many permits per key, the others wait in line', async () => {
  const permits = new Permits(2);
  const order: string[] = [];
  const [first, second] = await Promise.all([permits.take('a', never), permits.take('a', never)]);
  await permits.take('b', never);
  const third = permits.take('a', never).then((give) => {
    order.push('third');
    return give;
  });
  const fourth = permits.take('a', never).then((give) => {
    order.push('fourth');
    return give;
  });
  expect(order).toEqual([]);
  first!();
  first!();
  (await third)();
  await fourth;
  expect(order).toEqual(['third', 'fourth']);
  second!();
});

test('who stops waiting for a permit loses the place and nothing else', async () => {
  const permits = new Permits(1);
  const give = await permits.take('a', never);
  const controller = new AbortController();
  const impatient = permits.take('a', controller.signal);
  const patient = permits.take('a', never);
  controller.abort(new Error('enough'));
  await expect(impatient).rejects.toThrow('enough');
  give();
  (await patient)();
  await permits.take('a', never);
});

test('buffers are made up to a limit, used again, and waited for', async () => {
  const buffers = new RangeBuffers({ most: 2 }, { pool: new RangePool() });
  const [a, b] = await Promise.all([buffers.take(never), buffers.take(never)]);
  const controller = new AbortController();
  const impatient = buffers.take(controller.signal);
  const patient = buffers.take(never);
  controller.abort(new Error('enough'));
  await expect(impatient).rejects.toThrow('enough');
  buffers.give(a!.subarray(3, 5));
  const again = await patient;
  expect(again.buffer).toBe(a!.buffer);
  expect(again.length).toBe(a!.length);
  buffers.give(b!);
  expect((await buffers.take(never)).buffer).toBe(b!.buffer);
});

test('buffers of one blob are those of the next, and more than one holder needs are not kept', async () => {
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
