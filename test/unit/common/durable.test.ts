import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { writeDurably } from '../../../common/durable.ts';
import { SwarmError } from '../../../common/errors.ts';
import { temporaryFolder } from '../../utils/folder.ts';

const code = (value: string) => expect.objectContaining({ code: value });
/** Above the largest process id of any system. */
const ENDED = 4_194_305;

test('replaces the old file, and removes what killed processes left', async () => {
  const folder = await temporaryFolder();
  const path = join(folder, 'file');
  await writeFile(path, 'old and longer');
  await writeFile(`${path}.${ENDED}-3.partial`, 'abandoned');
  const kept = [`file.${process.pid}-999999.partial`, `file.two.${ENDED}-0.partial`];
  for (const name of kept) await writeFile(join(folder, name), 'of a running process, or of another file');
  await writeDurably(path, 'new', { mode: 0o600 });
  expect(await readFile(path, 'utf8')).toBe('new');
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  expect((await readdir(folder)).sort()).toEqual(['file', ...kept]);
});

test('concurrent writes leave one of the files whole', async () => {
  const path = join(await temporaryFolder(), 'file');
  const texts = Array.from({ length: 10 }, (_, i) => String(i).repeat(1000));
  await Promise.all(texts.map((text) => writeDurably(path, text)));
  expect(texts).toContain(await readFile(path, 'utf8'));
});

test('a failed write leaves the old file and no other', async () => {
  const folder = await temporaryFolder();
  const path = join(folder, 'file');
  await writeFile(path, 'old');
  const own = new SwarmError('OWN', 'as it was');
  const failure = (errno: string) => Object.assign(new Error(errno), { code: errno, syscall: 'write' });
  for (const [thrown, expected] of [
    [own, own],
    [new DOMException('stopped', 'AbortError'), expect.objectContaining({ name: 'AbortError' })],
    [new TypeError('a mistake'), expect.any(TypeError)],
    [failure('ENOSPC'), code('STORE_FULL')],
    [failure('EDQUOT'), code('STORE_FULL')],
    [failure('EIO'), code('WRITE_FAILED')],
  ]) {
    const written = writeDurably(path, async (handle) => {
      await handle.writeFile('half of the n');
      throw thrown;
    });
    await expect(written).rejects.toEqual(expected);
  }
  expect(await readFile(path, 'utf8')).toBe('old');
  expect(await readdir(folder)).toEqual(['file']);
});

test('a folder in the way or a missing one is WRITE_FAILED', async () => {
  const folder = await temporaryFolder();
  await mkdir(join(folder, 'taken', 'in the way'), { recursive: true });
  for (const name of ['taken', 'no/such/folder']) {
    await expect(writeDurably(join(folder, name), 'x')).rejects.toEqual(code('WRITE_FAILED'));
  }
  expect(await readdir(folder)).toEqual(['taken']);
});
