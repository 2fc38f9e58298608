import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { SwarmError } from '../../../../common/errors.ts';
import { writeDurably } from '../../../../common/files/durable.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { withCode } from '../../../utils/source/codes.ts';
import { expectMode } from '../../../utils/source/platform.ts';

/** Above the largest process id of Linux (2^22), so that no such process runs. */
const ENDED = 4_194_305;

it('replaces the old file and removes partial files of killed processes', async () => {
  const folder = await temporaryFolder();
  const path = join(folder, 'file');
  await writeFile(path, 'old and longer');
  await writeFile(`${path}.${ENDED}-3.partial`, 'abandoned');
  const kept = [`file.${process.pid}-999999.partial`, `file.two.${ENDED}-0.partial`];
  for (const name of kept) await writeFile(join(folder, name), 'of a running process, or of another file');
  await writeDurably(path, 'new', { mode: 0o600 });
  expect(await readFile(path, 'utf8')).toBe('new');
  await expectMode(path, 0o600);
  expect((await readdir(folder)).sort()).toEqual(['file', ...kept]);
});

it('leaves one whole file after concurrent writes', async () => {
  const path = join(await temporaryFolder(), 'file');
  const texts = Array.from({ length: 10 }, (_, i) => String(i).repeat(1000));
  await Promise.all(texts.map((text) => writeDurably(path, text)));
  expect(texts).toContain(await readFile(path, 'utf8'));
});

it('leaves only the old file after a failed write', async () => {
  const folder = await temporaryFolder();
  const path = join(folder, 'file');
  await writeFile(path, 'old');
  const own = new SwarmError('OWN', 'as it was');
  const failure = (errno: string) => Object.assign(new Error(errno), { code: errno, syscall: 'write' });
  for (const [thrown, expected] of [
    [own, own],
    [new DOMException('stopped', 'AbortError'), expect.objectContaining({ name: 'AbortError' })],
    [new TypeError('a mistake'), expect.any(TypeError)],
    [failure('ENOSPC'), withCode('STORE_FULL')],
    [failure('EDQUOT'), withCode('STORE_FULL')],
    [failure('EIO'), withCode('WRITE_FAILED')],
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

it('throws WRITE_FAILED if the path is a folder or its folder is missing', async () => {
  const folder = await temporaryFolder();
  await mkdir(join(folder, 'taken', 'in the way'), { recursive: true });
  for (const name of ['taken', 'no/such/folder']) {
    await expect(writeDurably(join(folder, name), 'x')).rejects.toMatchObject({ code: 'WRITE_FAILED' });
  }
  expect(await readdir(folder)).toEqual(['taken']);
});
