import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { makeTinyModel, TINY_TEXT } from './tiny-model.ts';

/** Writes `texts/`, `held-out.jsonl` and a tiny model into a folder. Returns the folder of the model. */
export async function makeTinyTraining(folder: string): Promise<string> {
  await mkdir(join(folder, 'texts'));
  await writeFile(join(folder, 'texts/a.txt'), TINY_TEXT.repeat(4));
  await writeFile(join(folder, 'held-out.jsonl'), `${JSON.stringify({ text: TINY_TEXT })}\n`);
  return makeTinyModel(join(folder, 'model'));
}
