import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { durableWrite, writeError } from '../../../net/durable.ts';
import { SwarmError } from '../../../protocol/errors.ts';
import { temporaryFolder } from '../../utils/folder.ts';

const code = (value: string) => expect.objectContaining({ code: value });

test('a durable write replaces the file and leaves nothing beside it', async () => {
  const folder = await temporaryFolder();
  const path = join(folder, 'file');
  await writeFile(path, 'old and longer than the new');
  await durableWrite(path, 'new', { mode: 0o600 });
  expect(await readFile(path, 'utf8')).toBe('new');
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  expect(await readdir(folder)).toEqual(['file']);
});

test('a durable write that fails leaves the old file and no other', async () => {
  const folder = await temporaryFolder();
  const path = join(folder, 'taken');
  await mkdir(join(path, 'in the way'), { recursive: true });
  await expect(durableWrite(path, 'new')).rejects.toEqual(code('WRITE_FAILED'));
  expect(await readdir(folder)).toEqual(['taken']);
  await expect(durableWrite(join(folder, 'no', 'such', 'folder'), 'new')).rejects.toEqual(
    code('WRITE_FAILED'),
  );
});

test('writes of many at once leave one of them whole', async () => {
  const path = join(await temporaryFolder(), 'file');
  const texts = Array.from({ length: 10 }, (_, i) => String(i).repeat(1000));
  await Promise.all(texts.map((text) => durableWrite(path, text)));
  expect(texts).toContain(await readFile(path, 'utf8'));
});

test('a full disk and an exceeded quota are told from other failures', () => {
  const failure = (errno: string): Error => Object.assign(new Error(errno), { code: errno });
  expect(writeError(failure('ENOSPC'), '/x')).toEqual(code('STORE_FULL'));
  expect(writeError(failure('EDQUOT'), '/x')).toEqual(code('STORE_FULL'));
  expect(writeError(failure('EIO'), '/x')).toEqual(code('WRITE_FAILED'));
  const own = new SwarmError('FILE_CHANGED', 'as it was');
  expect(writeError(own, '/x')).toBe(own);
});
