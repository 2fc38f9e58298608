import { join } from 'node:path';
import { expect, it } from 'vitest';
import { measure, writeConversations } from '../../../../scripts/bench/data-memory.ts';
import { temporaryFolder } from '../../../utils/folder.ts';

/** Limit on the peak memory of a process, in MiB. A process of Node.js without data takes about 60 MiB. */
const LIMIT = 300;
/**
 * Limit on how much the memory in use may differ, in MiB. The packing window of a million tokens may be full or nearly
 * empty.
 */
const SPREAD = 20;

// The benchmark `npm run bench data-memory` reads 2 GiB.
it('reads 64 MiB of conversations in less than 300 MiB', { timeout: 120_000 }, async () => {
  const path = join(await temporaryFolder(), 'data.jsonl');
  const rows = await writeConversations(path, 64);
  const { examples, peak } = await measure('read', path);
  expect(examples).toBe(rows);
  expect(peak).toBeLessThan(LIMIT);
});

// The second file is 12 MiB larger, which is four million tokens. Their ids and labels would take 32 MiB if they were kept.
it('tokenises and packs four times as many conversations in the same memory', {
  timeout: 300_000,
}, async () => {
  const inUse: number[] = [];
  for (const megabytes of [4, 16]) {
    const path = join(await temporaryFolder(), 'data.jsonl');
    const rows = await writeConversations(path, megabytes);
    const result = await measure('pack', path);
    expect(result.examples).toBe(rows);
    expect(result.peak).toBeLessThan(LIMIT);
    inUse.push(result.inUse!);
  }
  expect(inUse[1]! - inUse[0]!, `${inUse} MiB`).toBeLessThan(SPREAD);
});
