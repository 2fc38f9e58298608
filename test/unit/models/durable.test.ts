import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { writeDurably } from '../../../lora/models/durable.ts';
import { SwarmError } from '../../../protocol/errors.ts';
import { temporaryFolder } from '../../utils/folder.ts';

const code = (value: string) => expect.objectContaining({ code: value });
/** No system gives a process this number. */
const GONE = 4_194_305;

test('takes the place of the old file, and removes what killed processes began', async () => {
  const folder = await temporaryFolder();
  const path = join(folder, 'file');
  await writeFile(path, 'old and longer');
  await writeFile(`${path}.${GONE}-3.partial`, 'abandoned');
  const kept = [`file.${process.pid}-999999.partial`, `file.two.${GONE}-0.partial`];
  for (const name of kept) await writeFile(join(folder, name), 'of somebody else, or of another file');
  await writeDurably(path, (handle) => handle.writeFile('new'));
  expect(await readFile(path, 'utf8')).toBe('new');
  expect((await readdir(folder)).sort()).toEqual(['file', ...kept]);
});

test('leaves the old file, and nothing else, when the writing fails', async () => {
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

test('says where it cannot write', async () => {
  const folder = await temporaryFolder();
  await mkdir(join(folder, 'taken', 'in the way'), { recursive: true });
  for (const name of ['taken', 'no/such/folder']) {
    const written = writeDurably(join(folder, name), (handle) => handle.writeFile('x'));
    await expect(written).rejects.toEqual(code('WRITE_FAILED'));
  }
  expect(await readdir(folder)).toEqual(['taken']);
});
