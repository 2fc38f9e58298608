import { expect, it, vi } from 'vitest';
import { FETCH_TURN_MS, FetchTurns } from '../../../../node/blobs/fetch-turns.ts';
import type { BlobPort } from '../../../../node/blobs/obtain.ts';
import { obtain, obtainBaseFile } from '../../../../node/blobs/obtain.ts';
import { Pauses } from '../../../../node/limits/pauses.ts';
import { NodeStore } from '../../../../node/store/node-store.ts';
import { sha256 } from '../../../../protocol/cbor.ts';
import { BLOB_RANGE_BYTES } from '../../../../protocol/limits.ts';
import { FileBlobStore } from '../../../../storage/blob-store.ts';
import { eventuallyHolds } from '../../../utils/eventually.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { VirtualClock } from '../../../utils/virtual/virtual-clock.ts';

const RANGES = 5;
const bytes = Buffer.alloc(RANGES * BLOB_RANGE_BYTES, 7);
const ref = { digest: sha256(bytes), size: bytes.length };
const live = new AbortController().signal;

interface FetchOptions {
  signal: AbortSignal;
  again: boolean;
  origin?: string;
}

/** A node with a job of each of two coordinators. `arrive` waits for the next range of a fetch. */
async function node(
  clock: VirtualClock,
  arrive: (turn: { served: number; signal: AbortSignal }) => Promise<void>,
) {
  const blobs = await FileBlobStore.open({ home: await temporaryFolder() }, { clock });
  const { origins } = NodeStore.open(':memory:');
  let ranges = 0;
  const network = {
    peers: () => [],
    signer: { peerId: 'self' },
    request: async () => ({ state: 'checking' }),
    fetchBlob: async (
      { digest, size }: typeof ref,
      { again, signal, ...origin }: FetchOptions,
    ): Promise<void> => {
      if (!again && (await blobs.has(digest))) return;
      const named = origin.origin === undefined ? {} : { origin: origin.origin };
      const partial = await blobs.resume({ digest, size, ...named });
      let served = 0;
      try {
        for (let range = 0; range < partial.ranges; range++) {
          if (partial.has(range)) continue;
          await arrive({ served: served++, signal });
          ranges++;
          const { offset, length } = partial.extent(range);
          await partial.write(range, bytes.subarray(offset, offset + length), () => {});
        }
      } catch (error) {
        await partial.close();
        throw error;
      }
      await partial.finish();
    },
  };
  const pauses = new Pauses();
  const deps = { store: { origins }, fetchTurns: new FetchTurns({ clock }), blobs, network, clock, pauses };
  const context = (coordinator: string): BlobPort =>
    ({ job: `job of ${coordinator}`, coordinator, deps, keys: {} }) as unknown as BlobPort;
  return { blobs, origins, pauses, contexts: ['a', 'b'].map(context), ranges: () => ranges };
}

it('two coordinators whose holders stop after two ranges both supply the blob in three fetches', async () => {
  const { contexts, origins, ranges } = await node(new VirtualClock(0), async ({ served }) => {
    if (served === 2) throw new Error('the holder stopped');
  });
  for (let attempt = 0; attempt < 3; attempt++) {
    for (const context of contexts) await obtain(context, ref, { signal: live }).catch(() => {});
  }
  for (const { coordinator } of contexts) expect(origins.has(ref.digest, coordinator)).toBe(true);
  expect(ranges()).toBeLessThan(4 * RANGES);
});

it('two coordinators whose holders need longer than a turn both supply the blob', async () => {
  const clock = new VirtualClock(0);
  const rangeMs = FETCH_TURN_MS / 4;
  const { contexts, origins } = await node(clock, async ({ signal }) => {
    // The clock advances only while a fetch waits, because the disk does not follow the virtual clock.
    await clock.run(() => signal.aborted, rangeMs);
    signal.throwIfAborted();
  });
  const stop = new AbortController();
  clock.after(20 * FETCH_TURN_MS, () => stop.abort());
  await Promise.all(contexts.map((context) => obtain(context, ref, { signal: stop.signal })));
  for (const { coordinator } of contexts) expect(origins.has(ref.digest, coordinator)).toBe(true);
});

it('unfinished copies of a base are deleted when one coordinator has supplied the base', async () => {
  const { contexts, blobs } = await node(new VirtualClock(0), async ({ served }) => {
    if (served === 3) throw new Error('the holder stopped');
  });
  const deleted = vi.spyOn(blobs, 'deletePartial');
  const [a, b] = contexts as [BlobPort, BlobPort];
  for (const context of [a, b, a]) await obtainBaseFile(context, ref, { signal: live }).catch(() => {});
  expect(await blobs.has(ref.digest)).toBe(true);
  expect(deleted).toHaveBeenCalledExactlyOnceWith(ref.digest);
});

it('a fetch stops when the traffic of the month is used up, and goes on after that pause', async () => {
  let served = 0;
  const { contexts, blobs, pauses, ranges } = await node(new VirtualClock(0), async ({ signal }) => {
    if (++served === 3) pauses.set({ reason: 'traffic', text: 'used up', until: null });
    signal.throwIfAborted();
  });
  const fetched = obtain(contexts[0]!, ref, { signal: live });
  await eventuallyHolds(() => expect(served).toBe(3));
  pauses.set({ reason: 'traffic', text: 'used up', until: 1 });
  await new Promise(setImmediate);
  expect([served, ranges()]).toEqual([3, 2]);
  pauses.set({ reason: 'battery', text: 'on battery', until: null });
  await fetched;
  expect(await blobs.has(ref.digest)).toBe(true);
  expect(ranges()).toBe(RANGES);
});
