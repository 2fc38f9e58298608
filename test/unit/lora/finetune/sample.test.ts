import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { packRunData } from '../../../../lora/finetune/data.ts';
import { sampleData } from '../../../../lora/finetune/sample.ts';
import { resolveSpec } from '../../../../lora/finetune/settings/settings.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { characterTokenizer } from '../../../utils/models/character-tokenizer.ts';

const tokenizer = characterTokenizer(300);

it.each([
  ['two short texts in each row', Array.from({ length: 120 }, (_, i) => 23 + (i % 7))],
  ['texts as long as a row', [64, 63, 65, 64]],
  ['long texts whose ends share rows', [1000, 200, 70, 5, 3, 129]],
])('estimates the rows and tokens of plain text exactly if it reads all: %s', async (_, lengths) => {
  const dir = await temporaryFolder();
  const model = join(dir, 'model');
  await mkdir(model);
  const path = join(dir, 'data.jsonl');
  await writeFile(path, lengths.map((length) => JSON.stringify({ text: 'a'.repeat(length) })).join('\n'));
  const spec = resolveSpec({ base: model, data: { train: [path] }, training: { sequenceLength: 64 } });
  const { train: _train, heldOut: _held, ...settings } = spec.data;
  const where = { now: 0, signal: new AbortController().signal };
  const sample = await sampleData({ paths: [path], settings, modelDir: model, ...where }, { tokenizer });
  const cacheDir = join(dir, 'cache');
  const { data } = await packRunData(spec, { cacheDir, ...where }, { tokenizer, listener: {} });
  data.close();
  const { rows, tokens } = data;
  expect({ rows: sample.rows(64), tokens: sample.tokens }).toEqual({ rows, tokens });
});
