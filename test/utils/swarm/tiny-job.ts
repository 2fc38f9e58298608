import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type JobSpec, parseJobSpec } from '../../../lora/finetune/settings/job-spec.ts';
import { makeTinyModel, TINY_TEXT } from '../models/tiny-model.ts';

/** Makes a tiny base and 60 texts in a folder. Returns the folder of the base, and a job that trains on the texts. */
export async function tinyJob(folder: string): Promise<{ base: string; spec: JobSpec }> {
  const base = await makeTinyModel(join(folder, 'tiny'), { seed: 1 });
  const file = join(folder, 'texts.jsonl');
  const lines = Array.from({ length: 60 }, (_, i) => JSON.stringify({ text: `${i} ${TINY_TEXT}` }));
  await writeFile(file, lines.join('\n'));
  const training = { sequenceLength: 32, batchSize: 2, microBatch: 2 };
  const spec = parseJobSpec({ name: 'tiny', base, data: { train: [file], heldOut: 0.2 }, training });
  return { base, spec };
}
