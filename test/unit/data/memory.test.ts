import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { measure, writeConversations } from '../../../scripts/bench/data-memory.ts';

/** MiB. The process alone takes about 60 of it. */
const LIMIT = 300;

it('2 GB of conversations are read in less than 300 MB', { timeout: 300_000 }, async () => {
  const dir = await mkdtemp(join(tmpdir(), 'memory-'));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  const path = join(dir, 'data.jsonl');
  const rows = await writeConversations(path, 2048);
  const { examples, peak } = await measure('read', path);
  expect(examples).toBe(rows);
  expect(peak).toBeLessThan(LIMIT);
});
