import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { checkWritable, FULL_BELOW_BYTES } from '../../../storage/write-check.ts';
import { temporaryFolder } from '../../utils/folder.ts';
import { withCode } from '../../utils/source/codes.ts';

it('accepts a home with space, and leaves no file', async () => {
  const home = await temporaryFolder();
  await checkWritable(home);
  expect(await readdir(home)).toEqual([]);
});

it('refuses a disk that is almost full, and a folder that cannot be written', async () => {
  const home = await temporaryFolder();
  const full = checkWritable(home, { freeBytes: async () => FULL_BELOW_BYTES - 1 });
  await expect(full).rejects.toEqual(withCode('STORE_FULL', { free: FULL_BELOW_BYTES - 1 }));
  await expect(checkWritable(join(home, 'missing'))).rejects.toEqual(
    expect.objectContaining({ code: expect.any(String) }),
  );
});
