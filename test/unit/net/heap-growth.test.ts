import { expect, it } from 'vitest';
import { growthPercent } from '../../../net/heap-growth.ts';

const MiB = 2 ** 20;

it('lets a heap grow by half of its live objects, and a small heap by 32 MiB', () => {
  expect(growthPercent(16 * MiB)).toBe(200);
  expect(growthPercent(64 * MiB)).toBe(50);
  expect(growthPercent(1024 * MiB)).toBe(50);
});
