import { setImmediate } from 'node:timers/promises';
import { expect, test } from 'vitest';
import type { BlobRepair } from '../../../../coordinator/recovery/blob-repair.ts';
import { Scrub } from '../../../../coordinator/recovery/scrub.ts';
import type { Store } from '../../../../coordinator/store/store.ts';
import { silentLogger } from '../../../../monitor/logs/log.ts';
import type { BlobStore } from '../../../../storage/blobs.ts';
import { ManualClock } from '../../../utils/manual-clock.ts';

const MIB = 1024 * 1024;

test.each([
  { mib: [1], pauseMs: 60_000 },
  { mib: [63, 65], pauseMs: 120_000 },
  { mib: [1024], pauseMs: 16 * 60_000 },
])('after $mib MiB, the scrub pauses $pauseMs ms', async ({ mib, pauseMs }) => {
  const clock = new ManualClock();
  const life = new AbortController();
  const names = mib.map((_, i) => `blob ${i}`);
  const blobs: Pick<BlobStore, 'size' | 'check'> = {
    size: async (digest) => mib[names.indexOf(digest)]! * MIB,
    check: async () => 'whole',
  };
  const store = {
    blobs: { nextUsed: (after: string) => names.find((name) => name > after) ?? null },
  };
  const repair: Pick<BlobRepair, 'sizeOf'> = { sizeOf: () => null };
  const scrub = new Scrub({
    store: store as unknown as Store,
    blobs: blobs as BlobStore,
    repair: repair as BlobRepair,
    clock,
    log: silentLogger,
    runs: new Map(),
    signal: life.signal,
  });
  const run = scrub.run();
  await setImmediate();
  expect(clock.due()).toEqual([pauseMs]);
  life.abort();
  await run;
});
