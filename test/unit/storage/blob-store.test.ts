import { randomBytes } from 'node:crypto';
import { mkdir, readdir, readFile, stat, utimes, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { systemClock } from '../../../common/system-clock.ts';
import { sha256 } from '../../../protocol/cbor.ts';
import { BLOB_RANGE_BYTES } from '../../../protocol/limits.ts';
import { FileBlobStore } from '../../../storage/blob-store.ts';
import { temporaryFolder } from '../../utils/folder.ts';

const code = (value: string) => expect.objectContaining({ code: value });
const signal = new AbortController().signal;

async function openStore(home?: string) {
  const dir = home ?? (await temporaryFolder());
  return { home: dir, blobs: await FileBlobStore.open({ home: dir }, { clock: systemClock }) };
}

/** Every file below a folder, relative to it. */
async function filesIn(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}

describe('FileBlobStore', () => {
  test('what is put can be read, whole and in ranges', async () => {
    const { blobs } = await openStore();
    const bytes = randomBytes(100_000);
    const digest = await blobs.put(bytes);
    expect(digest).toBe(sha256(bytes));
    expect(await blobs.size(digest)).toBe(bytes.length);
    expect(Buffer.compare(await blobs.get(digest, { maxBytes: bytes.length }), bytes)).toBe(0);
    expect(Buffer.compare(await blobs.read(digest, 99_990, 100), bytes.subarray(99_990))).toBe(0);
    expect(await blobs.read(digest, 200_000, 5)).toHaveLength(0);
  });

  test('the same bytes take their space once', async () => {
    const { home, blobs } = await openStore();
    const file = join(await temporaryFolder(), 'file');
    await writeFile(file, 'the same');
    const digest = await blobs.put(Buffer.from('the same'));
    expect(await blobs.importFile(file, { signal })).toEqual({ digest, size: 8 });
    expect(await filesIn(home)).toEqual([blobs.path(digest)]);
  });

  test('a large file is imported under its digest', async () => {
    const { blobs } = await openStore();
    const file = join(await temporaryFolder(), 'file');
    const bytes = randomBytes(3 * BLOB_RANGE_BYTES + 5);
    await writeFile(file, bytes);
    const { digest, size } = await blobs.importFile(file, { signal });
    expect({ digest, size }).toEqual({ digest: sha256(bytes), size: bytes.length });
    expect(Buffer.compare(await readFile(blobs.path(digest)), bytes)).toBe(0);
  });

  test('importing stops when its signal says so, and leaves nothing', async () => {
    const { home, blobs } = await openStore();
    const file = join(await temporaryFolder(), 'file');
    await writeFile(file, 'x');
    await expect(blobs.importFile(file, { signal: AbortSignal.abort(new Error('enough')) })).rejects.toThrow(
      'enough',
    );
    expect(await filesIn(home)).toEqual([]);
  });

  test('what is missing or larger than expected is a typed error', async () => {
    const { blobs } = await openStore();
    const digest = await blobs.put(randomBytes(10));
    await expect(blobs.get(digest, { maxBytes: 9 })).rejects.toEqual(code('BLOB_SIZE'));
    await blobs.delete(digest);
    await expect(blobs.get(digest, { maxBytes: 10 })).rejects.toEqual(code('BLOB_MISSING'));
    await expect(blobs.read(digest, 0, 1)).rejects.toEqual(code('BLOB_MISSING'));
    expect(await blobs.has(digest)).toBe(false);
  });

  test('damage on disk is noticed, and makes room for the real bytes', async () => {
    const { blobs } = await openStore();
    const bytes = randomBytes(64);
    const digest = await blobs.put(bytes);
    await writeFile(blobs.path(digest), randomBytes(64));
    await expect(blobs.get(digest, { maxBytes: 64 })).rejects.toEqual(code('BLOB_CORRUPT'));
    await blobs.put(bytes);
    expect(await blobs.get(digest, { maxBytes: 64 })).toHaveLength(64);
  });

  test('no digest that is none leads anywhere', async () => {
    const { blobs } = await openStore();
    const hostile = [
      '',
      '../../etc/passwd',
      'A'.repeat(64),
      `${'a'.repeat(63)}/`,
      'a'.repeat(65),
      `${'a'.repeat(63)}\0`,
    ];
    for (const digest of hostile) expect(() => blobs.path(digest), digest).toThrow(code('BLOB_DIGEST'));
    fc.assert(
      fc.property(fc.string(), (digest) => {
        fc.pre(!/^[0-9a-f]{64}$/.test(digest));
        expect(() => blobs.path(digest)).toThrow(code('BLOB_DIGEST'));
      }),
    );
  });

  test('opening clears what was half written, and what nobody has gone on fetching for a week', async () => {
    const { home, blobs } = await openStore();
    const kept = await blobs.put(randomBytes(10));
    const folder = dirname(dirname(blobs.path(kept)));
    await writeFile(join(folder, 'incoming', 'half'), 'x');
    await mkdir(join(folder, 'partial'), { recursive: true });
    await writeFile(join(folder, 'partial', 'old'), 'x');
    await writeFile(join(folder, 'partial', 'young'), 'x');
    const longAgo = new Date(Date.now() - 8 * 24 * 3600 * 1000);
    await utimes(join(folder, 'partial', 'old'), longAgo, longAgo);
    await openStore(home);
    expect((await filesIn(home)).sort()).toEqual([blobs.path(kept), join(folder, 'partial', 'young')].sort());
  });

  test('what is deleted goes with all that an unfinished fetch has left of it', async () => {
    const { home, blobs } = await openStore();
    const ref = { digest: 'ab'.repeat(32), size: 2 * BLOB_RANGE_BYTES };
    const partial = await blobs.resume(ref);
    await partial.write(0, new Uint8Array(BLOB_RANGE_BYTES), () => {});
    await partial.close();
    expect(await filesIn(home)).toHaveLength(2);
    await blobs.delete(ref.digest);
    expect(await filesIn(home)).toEqual([]);
  });

  test('a blob that the disk has no room for is refused before a byte is fetched', async () => {
    const home = await temporaryFolder();
    const blobs = await FileBlobStore.open({ home }, { clock: systemClock, freeBytes: async () => 1000 });
    await expect(blobs.resume({ digest: 'ab'.repeat(32), size: 1001 })).rejects.toEqual(code('STORE_FULL'));
    await (await blobs.resume({ digest: 'cd'.repeat(32), size: 1000 })).close();
  });
});

describe('PartialBlob', () => {
  const bytes = randomBytes(3 * BLOB_RANGE_BYTES + 1234);
  const ref = { digest: sha256(bytes), size: bytes.length };
  const part = (range: number) => bytes.subarray(range * BLOB_RANGE_BYTES, (range + 1) * BLOB_RANGE_BYTES);
  const released = () => {};

  test.each([
    ['in order', [0, 1, 2, 3]],
    ['backwards', [3, 2, 1, 0]],
    ['mixed', [2, 0, 3, 1]],
  ])('ranges that arrive %s make the blob', async (_, order) => {
    const { home, blobs } = await openStore();
    const partial = await blobs.resume(ref);
    for (const range of order) expect(await partial.write(range, part(range), released)).toBe(true);
    expect(partial.complete).toBe(true);
    expect(partial.bytes).toBe(ref.size);
    await partial.finish();
    expect(Buffer.compare(await readFile(blobs.path(ref.digest)), bytes)).toBe(0);
    expect(await filesIn(home)).toEqual([blobs.path(ref.digest)]);
  });

  test('what was here before a restart is still here', async () => {
    const { home, blobs } = await openStore();
    const first = await blobs.resume(ref);
    await first.write(1, part(1), released);
    await first.write(3, part(3), released);
    await first.close();
    const second = await (await openStore(home)).blobs.resume(ref);
    expect([0, 1, 2, 3].map((range) => second.has(range))).toEqual([false, true, false, true]);
    expect(second).toMatchObject({ resumed: true, bytes: BLOB_RANGE_BYTES + 1234 });
    await second.write(0, part(0), released);
    await second.write(2, part(2), released);
    await second.finish();
    expect(await blobs.has(ref.digest)).toBe(true);
  });

  test('a second copy of a range is not written over the first', async () => {
    const { blobs } = await openStore();
    const partial = await blobs.resume(ref);
    const writes = await Promise.all([
      partial.write(0, part(0), released),
      partial.write(0, Buffer.alloc(BLOB_RANGE_BYTES), released),
    ]);
    expect(writes).toEqual([true, false]);
    for (const range of [1, 2, 3]) await partial.write(range, part(range), released);
    await partial.finish();
  });

  test('wrong bytes are never in the store, and the next try begins anew', async () => {
    const { blobs } = await openStore();
    const partial = await blobs.resume(ref);
    for (const range of [0, 1, 2]) await partial.write(range, part(range), released);
    await partial.write(3, Buffer.alloc(1234), released);
    await expect(partial.finish()).rejects.toEqual(code('BLOB_CORRUPT'));
    expect(await blobs.has(ref.digest)).toBe(false);
    expect(partial.bytes).toBe(0);
    for (const range of [0, 1, 2, 3]) await partial.write(range, part(range), released);
    await partial.finish();
    expect(await blobs.has(ref.digest)).toBe(true);
  });

  test('every buffer is given back', async () => {
    const { blobs } = await openStore();
    const partial = await blobs.resume(ref);
    let held = 0;
    for (const range of [3, 2, 1, 0]) {
      held++;
      await partial.write(range, part(range), () => held--);
    }
    expect(held).toBe(0);
    await partial.finish();
  });

  test('more out of turn than memory holds is read back while the rest arrives', async () => {
    const large = randomBytes(40 * BLOB_RANGE_BYTES + 9);
    const digest = sha256(large);
    const { blobs } = await openStore();
    const partial = await blobs.resume({ digest, size: large.length });
    // Larger than what is hashed at once: this goes through the hashing thread, which takes buffers away and back.
    let lent = 0;
    for (let range = 40; range >= 0; range--) {
      const buffer = Uint8Array.from(
        large.subarray(range * BLOB_RANGE_BYTES, (range + 1) * BLOB_RANGE_BYTES),
      );
      lent++;
      await partial.write(range, buffer, (part) => {
        expect(part.buffer.byteLength).toBeGreaterThan(0);
        lent--;
      });
      expect(lent).toBeLessThanOrEqual(17);
    }
    await partial.finish();
    expect(await blobs.size(digest)).toBe(large.length);
    expect(lent).toBe(0);
  });

  test('a blob that is forgotten in the middle of reading back can begin anew', async () => {
    const { blobs } = await openStore();
    const partial = await blobs.resume(ref);
    await partial.write(1, part(1), released);
    const first = partial.write(0, part(0), released);
    await Promise.all([first, partial.reset()]);
    await partial.reset();
    for (const range of [0, 1, 2, 3]) await partial.write(range, part(range), released);
    await partial.finish();
    expect(await blobs.has(ref.digest)).toBe(true);
  });

  test('a damaged map or file means beginning anew', async () => {
    const { home, blobs } = await openStore();
    const partial = await blobs.resume(ref);
    await partial.write(0, part(0), released);
    await partial.close();
    const map = join(home, 'blobs', 'partial', `${ref.digest}.map`);
    await writeFile(map, (await readFile(map)).subarray(1));
    const again = await blobs.resume(ref);
    expect(again.bytes).toBe(0);
    expect((await stat(join(home, 'blobs', 'partial', ref.digest))).size).toBe(ref.size);
    await again.close();
  });

  test('an empty blob needs no range', async () => {
    const { blobs } = await openStore();
    const partial = await blobs.resume({ digest: sha256(new Uint8Array()), size: 0 });
    expect(partial.complete).toBe(true);
    await partial.finish();
    expect(await blobs.size(sha256(new Uint8Array()))).toBe(0);
  });
});
