import {
  copyFile,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  stat,
  symlink,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { digestOf, RECORDED_FROM_BYTES, SETTLED_MS } from '../../../../../lora/models/base/digest-cache.ts';
import { sha256 } from '../../../../../protocol/cbor.ts';
import { temporaryFolder } from '../../../../utils/folder.ts';

let dir: string;
let file: string;
let records: string;
beforeEach(async () => {
  dir = await temporaryFolder();
  file = join(dir, 'weights');
  records = join(dir, 'records');
  await writeFile(file, Buffer.alloc(RECORDED_FROM_BYTES, 1));
});

const measure = async (path = file, folder: string | null = records) =>
  (await digestOf(path, await open(path), { records: folder })).digest;
const right = async (path = file) => sha256(await readFile(path));
const recordPath = async () => join(records, (await readdir(records))[0]!);

/** Replaces the digest in the record by MARK, the digest of no file. Sets the time of the record `later` ms after now. */
async function mark(later = SETTLED_MS + 1000): Promise<void> {
  const path = await recordPath();
  const { check: _, ...fields } = JSON.parse(await readFile(path, 'utf8'));
  const marked = { ...fields, digest: MARK };
  const check = sha256(Buffer.from(JSON.stringify(marked)));
  await writeFile(path, JSON.stringify({ ...marked, check }));
  const then = new Date(Date.now() + later);
  await utimes(path, then, then);
}
const MARK = 'f'.repeat(64);

describe('the digest of a large file', () => {
  it('is computed once, also if the file is reached through a link', async () => {
    expect(await measure()).toBe(await right());
    await mark();
    expect(await measure()).toBe(MARK);
    await symlink(file, join(dir, 'link'));
    expect(await measure(join(dir, 'link'))).toBe(MARK);
    expect(await readdir(records)).toHaveLength(1);
  });

  it('is computed again after any change, even if the mtime is reset', async () => {
    await measure();
    await mark();
    const handle = await open(file, 'r+');
    const { atime, mtime } = await handle.stat();
    await handle.write(Buffer.from([2]), 0, 1, 0);
    await handle.close();
    await utimes(file, atime, mtime);
    expect(await measure()).toBe(await right());
  });

  it('is computed again if another file takes its place', async () => {
    await measure();
    await mark();
    const other = join(dir, 'other');
    await copyFile(file, other);
    await writeFile(other, Buffer.alloc(RECORDED_FROM_BYTES, 3));
    await rename(other, file);
    expect(await measure()).toBe(await right());
    await truncate(file, RECORDED_FROM_BYTES + 1);
    expect(await measure()).toBe(await right());
  });

  it('is not trusted if the file changed just before the record was written', async () => {
    await measure();
    await mark(0);
    expect(await measure()).toBe(await right());
  });

  it('is computed if a record is damaged or cannot be written', async () => {
    await measure();
    const path = await recordPath();
    for (const text of ['', '{', '[]', JSON.stringify({ digest: MARK })]) {
      await writeFile(path, text);
      expect(await measure(), text).toBe(await right());
    }
    await writeFile(path, '');
    await measure();
    await mark();
    const { mtime } = await stat(path);
    await writeFile(path, (await readFile(path, 'utf8')).replace(MARK, 'e'.repeat(64)));
    await utimes(path, mtime, mtime);
    expect(await measure(), 'another digest').toBe(await right());
    await writeFile(join(dir, 'taken'), '');
    expect(await measure(file, join(dir, 'taken'))).toBe(await right());
  });

  it('is not recorded for a small file or without a folder', async () => {
    await mkdir(records);
    const small = join(dir, 'small');
    await writeFile(small, Buffer.alloc(RECORDED_FROM_BYTES - 1));
    expect(await measure(small)).toBe(await right(small));
    expect(await measure(file, null)).toBe(await right());
    expect(await readdir(records)).toEqual([]);
  });
});
