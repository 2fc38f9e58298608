import { join } from 'node:path';
import { expect, it } from 'vitest';
import { measure, writeConversations } from '../../../../scripts/bench/data-memory.ts';
import { temporaryFolder } from '../../../utils/folder.ts';

/** MiB. The process alone takes about 60 of it. */
const LIMIT = 300;
/** MiB: the window of packing, a million tokens, is more or less full. */
const SPREAD = 20;

it('2 GB of conversations are read in less than 300 MB', { timeout: 300_000 }, async () => {
  const path = join(await temporaryFolder(), 'data.jsonl');
  const rows = await writeConversations(path, 2048);
  const { examples, peak } = await measure('read', path);
  expect(examples).toBe(rows);
  expect(peak).toBeLessThan(LIMIT);
});

// 12 MiB more are four million tokens: 32 MiB as ids and labels, if they were kept.
it('tokenised and packed, four times the conversations take no more', { timeout: 300_000 }, async () => {
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
