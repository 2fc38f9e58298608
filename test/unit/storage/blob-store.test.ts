import { randomBytes } from 'node:crypto';
import {
  chmod,
  type FileHandle,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { systemClock } from '../../../common/time/system-clock.ts';
import { sha256 } from '../../../protocol/cbor.ts';
import { BLOB_RANGE_BYTES } from '../../../protocol/limits.ts';
import { hashFile, readFully } from '../../../storage/blob-files.ts';
import { FileBlobStore } from '../../../storage/blob-store.ts';
import { storageError } from '../../../storage/errors.ts';
import { lostBlob } from '../../../storage/lost-blobs.ts';
import { unlessLost } from '../../../storage/range-map.ts';
import { temporaryFolder } from '../../utils/folder.ts';
import { withCode } from '../../utils/source/codes.ts';
import { mayOpenEverything } from '../../utils/unreadable.ts';

const signal = new AbortController().signal;

async function openStore(home?: string) {
  const dir = home ?? (await temporaryFolder());
  return { home: dir, blobs: await FileBlobStore.open({ home: dir }, { clock: systemClock }) };
}

/** Lists every file below a folder. */
async function filesIn(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}

describe('FileBlobStore', () => {
  it('reads a stored blob, whole and in ranges', async () => {
    const { blobs } = await openStore();
    const bytes = randomBytes(100_000);
    const digest = await blobs.put(bytes);
    expect(digest).toBe(sha256(bytes));
    expect(await blobs.size(digest)).toBe(bytes.length);
    expect(Buffer.compare(await blobs.get(digest, { maxBytes: bytes.length }), bytes)).toBe(0);
    expect(Buffer.compare(await blobs.read(digest, 99_990, 100), bytes.subarray(99_990))).toBe(0);
    expect(await blobs.read(digest, 200_000, 5)).toHaveLength(0);
  });

  it('stores equal bytes once', async () => {
    const { home, blobs } = await openStore();
    const file = join(await temporaryFolder(), 'file');
    await writeFile(file, 'the same');
    const digest = await blobs.put(Buffer.from('the same'));
    expect(await blobs.importFile(file, { signal })).toEqual({ digest, size: 8 });
    expect(await filesIn(home)).toEqual([blobs.path(digest)]);
  });

  it('imports a large file under its digest', async () => {
    const { blobs } = await openStore();
    const file = join(await temporaryFolder(), 'file');
    const bytes = randomBytes(3 * BLOB_RANGE_BYTES + 5);
    await writeFile(file, bytes);
    const { digest, size } = await blobs.importFile(file, { signal });
    expect({ digest, size }).toEqual({ digest: sha256(bytes), size: bytes.length });
    expect(Buffer.compare(await readFile(blobs.path(digest)), bytes)).toBe(0);
  });

  it('aborts an import and leaves no file', async () => {
    const { home, blobs } = await openStore();
    const file = join(await temporaryFolder(), 'file');
    await writeFile(file, 'x');
    const aborted = AbortSignal.abort();
    await expect(blobs.importFile(file, { signal: aborted })).rejects.toBe(aborted.reason);
    expect(await filesIn(home)).toEqual([]);
  });

  it('throws typed errors for a missing blob and for one larger than expected', async () => {
    const { blobs } = await openStore();
    const digest = await blobs.put(randomBytes(10));
    await expect(blobs.get(digest, { maxBytes: 9 })).rejects.toMatchObject({ code: 'BLOB_SIZE' });
    await blobs.delete(digest);
    await expect(blobs.get(digest, { maxBytes: 10 })).rejects.toMatchObject({ code: 'BLOB_MISSING' });
    await expect(blobs.read(digest, 0, 1)).rejects.toMatchObject({ code: 'BLOB_MISSING' });
    expect(await blobs.has(digest)).toBe(false);
  });

  it('detects a blob damaged on disk and deletes it, so that it can be stored again', async () => {
    const { blobs } = await openStore();
    const bytes = randomBytes(64);
    const digest = await blobs.put(bytes);
    await writeFile(blobs.path(digest), randomBytes(64));
    await expect(blobs.get(digest, { maxBytes: 64 })).rejects.toMatchObject({ code: 'BLOB_CORRUPT' });
    await blobs.put(bytes);
    expect(await blobs.get(digest, { maxBytes: 64 })).toHaveLength(64);
  });

  it('refuses a path for anything but a digest', async () => {
    const { blobs } = await openStore();
    const hostile = [
      '',
      '../../etc/passwd',
      'A'.repeat(64),
      `${'a'.repeat(63)}/`,
      'a'.repeat(65),
      `${'a'.repeat(63)}\0`,
    ];
    for (const digest of hostile) expect(() => blobs.path(digest), digest).toThrow(withCode('BLOB_DIGEST'));
    fc.assert(
      fc.property(fc.string(), (digest) => {
        fc.pre(!/^[0-9a-f]{64}$/.test(digest));
        expect(() => blobs.path(digest)).toThrow(withCode('BLOB_DIGEST'));
      }),
    );
  });

  it('deletes half-written files and week-old partial blobs when it opens', async () => {
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

  it('says that its home is gone, and works again when the home is back', async () => {
    const { home, blobs } = await openStore();
    const ref = { digest: 'ab'.repeat(32), size: 1 };
    await rename(home, `${home}-moved`);
    const gone = { code: 'HOME_GONE', values: { folder: join(home, 'blobs') } };
    await expect(blobs.resume(ref)).rejects.toMatchObject(gone);
    await expect(blobs.delete(ref.digest)).rejects.toMatchObject(gone);
    await rename(`${home}-moved`, home);
    await (await blobs.resume(ref)).close();
  });

  it('deletes a blob together with its partial files', async () => {
    const { home, blobs } = await openStore();
    const ref = { digest: 'ab'.repeat(32), size: 2 * BLOB_RANGE_BYTES };
    const partial = await blobs.resume(ref);
    await partial.write(0, new Uint8Array(BLOB_RANGE_BYTES), () => {});
    await partial.close();
    expect(await filesIn(home)).toHaveLength(2);
    await blobs.delete(ref.digest);
    expect(await filesIn(home)).toEqual([]);
  });

  it('refuses a blob that does not fit on the disk before any byte is fetched', async () => {
    const home = await temporaryFolder();
    const blobs = await FileBlobStore.open({ home }, { clock: systemClock, freeBytes: async () => 1000 });
    await expect(blobs.resume({ digest: 'ab'.repeat(32), size: 1001 })).rejects.toMatchObject({
      code: 'STORE_FULL',
    });
    await (await blobs.resume({ digest: 'cd'.repeat(32), size: 1000 })).close();
  });
});

describe('PartialBlob', () => {
  const bytes = randomBytes(3 * BLOB_RANGE_BYTES + 1234);
  const ref = { digest: sha256(bytes), size: bytes.length };
  const part = (range: number) => bytes.subarray(range * BLOB_RANGE_BYTES, (range + 1) * BLOB_RANGE_BYTES);
  const released = () => {};

  it.each([
    ['in order', [0, 1, 2, 3]],
    ['backwards', [3, 2, 1, 0]],
    ['mixed', [2, 0, 3, 1]],
  ])('assembles ranges that arrive %s', async (_, order) => {
    const { home, blobs } = await openStore();
    const partial = await blobs.resume(ref);
    for (const range of order) expect(await partial.write(range, part(range), released)).toBe(true);
    expect(partial.complete).toBe(true);
    expect(partial.bytes).toBe(ref.size);
    await partial.finish();
    expect(Buffer.compare(await readFile(blobs.path(ref.digest)), bytes)).toBe(0);
    expect(await filesIn(home)).toEqual([blobs.path(ref.digest)]);
  });

  it('keeps its ranges over a restart', async () => {
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

  it('does not overwrite a range with a second copy', async () => {
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

  it('never stores wrong bytes, and starts again from the beginning', async () => {
    const { blobs } = await openStore();
    const partial = await blobs.resume(ref);
    for (const range of [0, 1, 2]) await partial.write(range, part(range), released);
    await partial.write(3, Buffer.alloc(1234), released);
    await expect(partial.finish()).rejects.toMatchObject({ code: 'BLOB_CORRUPT' });
    expect(await blobs.has(ref.digest)).toBe(false);
    expect(partial.bytes).toBe(0);
    for (const range of [0, 1, 2, 3]) await partial.write(range, part(range), released);
    await partial.finish();
    expect(await blobs.has(ref.digest)).toBe(true);
  });

  it('returns every buffer', async () => {
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

  it('reads back ranges that exceed its memory while the rest arrives', async () => {
    const large = randomBytes(40 * BLOB_RANGE_BYTES + 9);
    const digest = sha256(large);
    const { blobs } = await openStore();
    const partial = await blobs.resume({ digest, size: large.length });
    // The blob is so large that a thread hashes it. The thread borrows the buffers.
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

  it('can start again after a reset during reading back', async () => {
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

  it('starts from the beginning if the map or the file is damaged', async () => {
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

  it.each(['', '.map'])(
    'keeps its ranges if the file "DIGEST%s" cannot be opened for a while',
    async (ending) => {
      const { home, blobs } = await openStore();
      const partial = await blobs.resume(ref);
      await partial.write(0, part(0), released);
      await partial.close();
      const file = join(home, 'blobs', 'partial', `${ref.digest}${ending}`);
      await rename(file, `${file}.aside`);
      // A link to itself stands for all errors that pass, such as too many open files.
      await symlink(file, file);
      const values = { errno: 'ELOOP' };
      await expect(blobs.resume(ref)).rejects.toMatchObject({ code: 'WRITE_FAILED', values });
      await rm(file);
      await rename(`${file}.aside`, file);
      const again = await blobs.resume(ref);
      expect(again.bytes).toBe(BLOB_RANGE_BYTES);
      await again.close();
    },
  );

  it('completes an empty blob without any range', async () => {
    const { blobs } = await openStore();
    const partial = await blobs.resume({ digest: sha256(new Uint8Array()), size: 0 });
    expect(partial.complete).toBe(true);
    await partial.finish();
    expect(await blobs.size(sha256(new Uint8Array()))).toBe(0);
  });
});

describe('a blob that cannot be read', () => {
  it('gets back the rights of its owner', async ({ skip }) => {
    skip(await mayOpenEverything(), 'this process may open every file');
    const { blobs } = await openStore();
    const digest = await blobs.put(Buffer.from('bytes'));
    for (const use of ['size', 'get', 'check'] as const) {
      await chmod(blobs.path(digest), 0);
      const found = {
        size: () => blobs.size(digest),
        get: async () => Buffer.from(await blobs.get(digest, { maxBytes: 5 })).toString(),
        check: () => blobs.check(digest, { signal }),
      };
      expect(await found[use]()).toBe({ size: 5, get: 'bytes', check: 'whole' }[use]);
    }
  });

  it('does not prevent another fetch if it is the partial blob of an earlier one', async ({ skip }) => {
    skip(await mayOpenEverything(), 'this process may open every file');
    const { home, blobs } = await openStore();
    const bytes = randomBytes(2 * BLOB_RANGE_BYTES);
    const ref = { digest: sha256(bytes), size: bytes.length };
    for (const name of [ref.digest, `${ref.digest}.map`]) {
      const first = await blobs.resume(ref);
      await first.write(0, bytes.subarray(0, BLOB_RANGE_BYTES), () => {});
      await first.close();
      await chmod(join(home, 'blobs', 'partial', name), 0);
      const second = await blobs.resume(ref);
      expect(second.has(0)).toBe(false);
      await second.close();
    }
  });

  it('is named by the error, so that it can be repaired', async () => {
    const { blobs } = await openStore();
    const digest = await blobs.put(Buffer.from('blob'));
    const reader = (await blobs.reader(digest))!;
    await reader.close();
    blobs.reader = async () => ({
      ...reader,
      size: 4,
      readInto: () => {
        throw storageError('BLOB_TRUNCATED', 'the disk cannot read a part of a blob', {});
      },
      close: async () => {},
    });
    const error = await blobs.get(digest, { maxBytes: 4 }).catch((caught: unknown) => caught);
    expect(lostBlob(error)).toBe(digest);
  });

  it('is damaged if the disk cannot read it', async () => {
    const fails = async (): Promise<never> => {
      throw Object.assign(new Error('EIO: i/o error, read'), { code: 'EIO' });
    };
    const file = { read: fails, readv: fails } as unknown as FileHandle;
    await expect(readFully(file, 0, [new Uint8Array(1)])).rejects.toMatchObject({ code: 'BLOB_TRUNCATED' });
    await expect(hashFile(file, signal)).rejects.toMatchObject({ code: 'BLOB_TRUNCATED' });
    expect(await unlessLost(fails()), 'a file of a partial blob').toBeNull();
  });
});
