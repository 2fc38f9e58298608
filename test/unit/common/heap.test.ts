import { execFileSync } from 'node:child_process';
import { expect, it } from 'vitest';
import { growthPercent } from '../../../common/heap.ts';

/** Makes objects that survive, and prints the largest size of the young generation in MiB. */
const program = `
import { getHeapSpaceStatistics } from 'node:v8';
const [limit] = process.argv.slice(1);
if (limit) (await import(limit)).limitYoungGeneration();
const kept = [];
let most = 0;
for (let turn = 0; turn < 300; turn++) {
  for (let i = 0; i < 4000; i++) kept[(turn * 4000 + i) % 200_000] = { turn, i, text: 'text ' + i };
  await new Promise(setImmediate);
  const { space_size } = getHeapSpaceStatistics().find(({ space_name }) => space_name === 'new_space');
  most = Math.max(most, space_size);
}
console.log(most / 2 ** 20);`;

function largestMiB(...args: string[]): number {
  return Number(execFileSync(process.execPath, ['--input-type=module', '-e', program, ...args]));
}

it('keeps the young generation small although many objects survive', () => {
  const module = new URL('../../../common/heap.ts', import.meta.url).href;
  // V8 may hold a few pages of 256 KiB more while it moves objects. Its next size would be 32 MiB.
  expect(largestMiB(module)).toBeLessThan(20);
  expect(largestMiB()).toBeGreaterThanOrEqual(32);
});

const MiB = 2 ** 20;

it('lets a heap grow by half of its live objects, and a small heap by 32 MiB', () => {
  expect(growthPercent(16 * MiB)).toBe(200);
  expect(growthPercent(64 * MiB)).toBe(50);
  expect(growthPercent(1024 * MiB)).toBe(50);
});
