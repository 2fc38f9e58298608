import { appendFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { systemClock } from '../../../common/time/system-clock.ts';
import { FileBlobStore } from '../../../storage/blob-store.ts';
import { OpenBlobs } from '../../../storage/open-blobs.ts';
import { temporaryFolder } from '../../utils/folder.ts';
import { ManualClock } from '../../utils/manual-clock.ts';

const BYTES = new TextEncoder().encode('the adapter');

it('reads the new file of a blob that was repaired between two ranges', async () => {
  const blobs = await FileBlobStore.open({ home: await temporaryFolder() }, { clock: systemClock });
  const open = new OpenBlobs({ blobs, clock: new ManualClock() });
  const digest = await blobs.put(BYTES);
  const size = () => open.use(digest, async (reader) => reader?.size ?? null);
  await appendFile(blobs.path(digest), ' with damage');
  expect(await size()).toBeGreaterThan(BYTES.length);
  await blobs.delete(digest);
  expect(await size()).toBeNull();
  await blobs.put(BYTES, digest);
  expect(await size()).toBe(BYTES.length);
  open.close();
});

it('lets a use that has begun read the old file to its end', async () => {
  const blobs = await FileBlobStore.open({ home: await temporaryFolder() }, { clock: systemClock });
  const open = new OpenBlobs({ blobs, clock: new ManualClock() });
  const digest = await blobs.put(BYTES);
  const read = await open.use(digest, async (reader) => {
    await blobs.delete(digest);
    const bytes = new Uint8Array(BYTES.length);
    await reader!.readInto(0, [bytes]);
    return bytes;
  });
  expect(read).toEqual(BYTES);
  expect(await open.use(digest, async (reader) => reader)).toBeNull();
  open.close();
});
