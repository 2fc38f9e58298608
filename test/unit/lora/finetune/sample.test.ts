import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { packRunData } from '../../../../lora/finetune/data.ts';
import { sampleData } from '../../../../lora/finetune/sample.ts';
import { resolveSpec } from '../../../../lora/finetune/settings/settings.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { characterTokenizer } from '../../../utils/models/character-tokenizer.ts';

const tokenizer = characterTokenizer(300);
const textsOf = (lengths: readonly number[]) => lengths.map((length) => ({ text: 'a'.repeat(length) }));
const where = { now: 0, signal: new AbortController().signal };

/** Writes records into a data file. Returns how the estimate reads the file, and the settings of a run with it. */
async function dataOf(records: readonly object[]) {
  const dir = await temporaryFolder();
  const model = join(dir, 'model');
  await mkdir(model);
  const path = join(dir, 'data.jsonl');
  await writeFile(path, records.map((record) => JSON.stringify(record)).join('\n'));
  const spec = resolveSpec({ base: model, data: { train: [path] }, training: { sequenceLength: 64 } });
  const { train: _train, heldOut: _held, ...settings } = spec.data;
  return {
    options: { paths: [path], settings, modelDir: model, ...where },
    spec,
    cacheDir: join(dir, 'cache'),
  };
}

it.each([
  ['two short texts in each row', textsOf(Array.from({ length: 120 }, (_, i) => 23 + (i % 7)))],
  ['texts as long as a row', textsOf([64, 63, 65, 64])],
  ['long texts whose ends share rows', textsOf([1000, 200, 70, 5, 3, 129])],
  [
    'prompts',
    Array.from({ length: 40 }, (_, i) => ({ prompt: 'a'.repeat(5 + i), completion: 'b'.repeat(3) })),
  ],
])('estimates the rows and supervised tokens exactly if it reads all data: %s', async (_, records) => {
  const { options, spec, cacheDir } = await dataOf(records);
  const sample = await sampleData(options, { tokenizer });
  const { data } = await packRunData(spec, { cacheDir, ...where }, { tokenizer, listener: {} });
  data.close();
  const { rows, tokens } = data;
  expect({ rows: sample.rows(64), tokens: sample.trainedTokens }).toEqual({ rows, tokens });
});

it('refuses data without a token to predict, as a run does', async () => {
  const { options, spec, cacheDir } = await dataOf(textsOf([1, 1]));
  const endless = { tokenizer: { ...tokenizer, eosId: null } };
  await expect(sampleData(options, endless)).rejects.toMatchObject({ code: 'DATA_EMPTY' });
  const run = packRunData(spec, { cacheDir, ...where }, { ...endless, listener: {} });
  await expect(run).rejects.toMatchObject({ code: 'DATA_EMPTY' });
});
