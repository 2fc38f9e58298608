import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { removeBases } from '../../../../lora/models/base-cleanup.ts';
import { digestOf, digestRecords, RECORDED_FROM_BYTES } from '../../../../lora/models/digest-cache.ts';
import { openFile } from '../../../../lora/models/json.ts';
import { temporaryFolder } from '../../../utils/folder.ts';

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

  await removeBases({ home, keep: new Set([needed]) });

  expect(await readdir(join(home, 'bases'))).toEqual([needed]);
  expect((await readdir(cache)).sort()).toEqual([`${needed}.f32`, 'digests']);
  const left = await readdir(records);
  expect(known).toHaveLength(2);
  expect(left).toHaveLength(1);
  expect(known).toContain(left[0]);
});
