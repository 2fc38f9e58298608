import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { estimateFinetune, finetune } from '../../../../lora/finetune/finetune.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { withCode } from '../../../utils/source/codes.ts';

it('an output that is a file is refused before any other work, with its path', async () => {
  const output = join(await temporaryFolder(), 'file');
  await writeFile(output, 'mine');
  const options = { settings: { base: 'no/base', data: { train: '/no/data' } }, output };
  const refused = withCode('FOLDER_UNUSABLE', { path: output });
  await expect(finetune(options)).rejects.toEqual(refused);
  await expect(finetune({ ...options, resume: true })).rejects.toEqual(refused);
  await expect(estimateFinetune(options)).rejects.toEqual(refused);
});

it('a folder without a checkpoint is named if a run without a base or data should continue there', async () => {
  const output = join(await temporaryFolder(), 'nothing');
  const refused = withCode('NOTHING_TO_RESUME', { output });
  const resumed = { output, resume: true };
  await expect(finetune({ settings: {}, ...resumed })).rejects.toEqual(refused);
  await expect(finetune({ settings: { base: '/no/base' }, ...resumed })).rejects.toEqual(refused);
  await expect(estimateFinetune({ settings: {}, ...resumed })).rejects.toEqual(refused);
  await expect(finetune({ settings: {}, output })).rejects.toEqual(withCode('USAGE'));
});
