import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it, vi } from 'vitest';
import { removeBases, removeOtherBits } from '../../../../../lora/models/base/base-cleanup.ts';
import {
  digestOf,
  digestRecords,
  RECORDED_FROM_BYTES,
} from '../../../../../lora/models/base/digest-cache.ts';
import { openFile } from '../../../../../lora/models/json.ts';
import { temporaryFolder } from '../../../../utils/folder.ts';

it('keeps files derived from needed bases, and digests of existing files', async () => {
  const home = await temporaryFolder();
  const cache = join(home, 'cache');
  const records = digestRecords(cache);
  const [needed, other] = ['a'.repeat(64), 'b'.repeat(64)];
  for (const digest of [needed, other]) {
    await mkdir(join(home, 'bases', digest), { recursive: true });
    await mkdir(cache, { recursive: true });
    await writeFile(join(cache, `${digest}.f32`), 'weights');
    const file = join(home, digest);
    await writeFile(file, Buffer.alloc(RECORDED_FROM_BYTES));
    await digestOf(file, (await openFile(file)).handle, { records });
  }
  await rm(join(home, other));
  const known = await readdir(records);
  await writeFile(join(records, `${known[0]}.1.partial`), '{');

  const onUndeleted = vi.fn();
  await removeBases({ home, keep: new Set([needed]), onUndeleted });
  expect(onUndeleted).not.toHaveBeenCalled();

  expect(await readdir(join(home, 'bases'))).toEqual([needed]);
  expect((await readdir(cache)).sort()).toEqual([`${needed}.f32`, 'digests']);
  const left = await readdir(records);
  expect(known).toHaveLength(2);
  expect(left).toHaveLength(1);
  expect(known).toContain(left[0]);
});

it('deletes converted weights of other base bits, and no other file', async () => {
  const cache = await temporaryFolder();
  const [one, two] = ['a'.repeat(64), 'b'.repeat(64)];
  const others = ['digests', `${one}.f32.txt`, 'notes.f32'];
  for (const name of [...others, `${one}.f32`, `${one}.q8v3`, `${one}.q4v3`, `${two}.f32`]) {
    await writeFile(join(cache, name), '');
  }
  const onUndeleted = vi.fn();
  await removeOtherBits(cache, { bits: 8, onUndeleted });
  expect((await readdir(cache)).sort()).toEqual([...others, `${one}.q8v3`].sort());
  await removeOtherBits(join(cache, 'missing'), { bits: 8, onUndeleted });
  expect(onUndeleted).not.toHaveBeenCalled();
});
