import { expect, test } from 'vitest';
import { readOnce } from '../../../../lora/generate/process/read-once.ts';

test('keeps what was read, and reads again after a failure', async () => {
  let reads = 0;
  const full = new Error('the disk is full');
  const read = readOnce(async () => {
    if (++reads === 1) throw full;
    return reads;
  });
  expect(await Promise.allSettled([read(), read()])).toEqual([
    { status: 'rejected', reason: full },
    { status: 'rejected', reason: full },
  ]);
  expect(await Promise.all([read(), read()])).toEqual([2, 2]);
  expect(await read()).toBe(2);
});
