import { utimesSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { exportGguf } from '../../../../../lora/adapter/export-gguf.ts';
import { openGgufBase } from '../../../../../lora/models/gguf/gguf-base.ts';
import { temporaryFolder } from '../../../../utils/folder.ts';
import { makeTinyModel } from '../../../../utils/models/tiny-model.ts';

test('a file that changes while it is converted gives no folder', async () => {
  const folder = await temporaryFolder();
  const cacheDir = join(folder, 'cache');
  const base = await makeTinyModel(join(folder, 'tiny'));
  const { file: path } = await exportGguf({ base, output: join(folder, 'out'), type: 'f32', cacheDir });
  const changed = openGgufBase({ path, cacheDir, onProgress: () => utimesSync(path, 1, 1) });
  await expect(changed).rejects.toMatchObject({ code: 'GGUF_CHANGED' });
  const [parent] = await readdir(join(cacheDir, 'gguf'));
  expect(await readdir(join(cacheDir, 'gguf', parent!))).toEqual([]);
  const output = await openGgufBase({ path, cacheDir });
  expect(await openGgufBase({ path, cacheDir })).toBe(output);
  expect(await readdir(output)).toContain('config.json');
});
