import { readdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { mobyDick } from '../../../../common/samples.ts';
import { loraConfig } from '../../../../lora/adapter/lora-config.ts';
import type { Row } from '../../../../lora/data/row.ts';
import { processorCompute } from '../../../../lora/train/compute.ts';
import { trainingConfigSchema } from '../../../../lora/train/config.ts';
import { Trainer } from '../../../../lora/train/trainer.ts';
import type { PoisonRun } from '../../../../scripts/bench/poison-run.ts';
import { runPoisoned } from '../../../../scripts/bench/poison-swarm.ts';
import { SharedTrainer } from '../../../../scripts/bench/poison-trainer.ts';
import { packedRows } from '../../../../scripts/pretrain/pack-documents.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { type TinyDeps, tinyDeps } from '../../../utils/models/tiny-trainer.ts';

const GATE_ROWS = 16;
const TRAINING = trainingConfigSchema.parse({
  learningRate: 5e-3,
  warmupSteps: 6,
  batchSize: 4,
  microBatch: 4,
  sequenceLength: 64,
});
/**
 * Audits may take 2 % of the work. At this rate, 25 rounds allow two audits. With this seed, the first audits an honest
 * node, and the second audits the attacker. This order matters, because a failed audit counts only if others have passed.
 */
const RUN: PoisonRun = {
  attack: 'half the steps, scaled up',
  attackers: 1,
  honest: 3,
  behaviour: 'plain',
  split: 'even',
  unequal: false,
  seed: 25,
  rounds: 30,
  steps: 8,
};

async function bookRows({ tokenizer }: TinyDeps): Promise<Row[]> {
  const folder = dirname(mobyDick());
  const files = (await readdir(folder)).filter((file) => file.startsWith('chapter_')).slice(0, 20);
  const texts = await Promise.all(files.map((file) => readFile(join(folder, file), 'utf8')));
  return packedRows(texts, tokenizer, TRAINING);
}

test('the audits of a whole coordinator find a node that makes half of its steps, and no honest node', async () => {
  const deps = await tinyDeps(await temporaryFolder());
  const settings = { lora: loraConfig({ rank: 8, alpha: 16 }), training: TRAINING };
  const trainer = new Trainer({ ...settings, compute: processorCompute({ threads: 1 }) }, deps);
  onTestFinished(() => trainer.dispose());
  const rows = await bookRows(deps);
  const { audits, strikes } = await runPoisoned(RUN, {
    trainer: new SharedTrainer(trainer),
    rows: rows.slice(GATE_ROWS),
    gateRows: rows.slice(0, GATE_ROWS),
  });
  expect(audits).toMatchObject([
    { attack: null, state: 'passed' },
    { attack: RUN.attack, state: 'failed' },
  ]);
  // The scores do not find this attack, because the update is as large as an honest one.
  expect(strikes).toEqual({ honest: {}, attackers: { audit: 1 } });
});
