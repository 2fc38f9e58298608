import { readdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { mobyDick, nanoModel } from '../../../../common/samples.ts';
import { passes } from '../../../../coordinator/audits/verdict.ts';
import { initialMatrices } from '../../../../lora/adapter/initial.ts';
import { loraConfig } from '../../../../lora/adapter/lora-config.ts';
import type { Row } from '../../../../lora/data/row.ts';
import { SeededRandom } from '../../../../lora/data/seeded-random.ts';
import { loadTokenizer } from '../../../../lora/data/tokenizer.ts';
import { createEngine } from '../../../../lora/engines/engine.ts';
import type { BaseBits } from '../../../../lora/models/base/base-bits.ts';
import { openBase } from '../../../../lora/models/base/base-model.ts';
import { prepareWeights } from '../../../../lora/models/weights/prepare-weights.ts';
import { processorCompute } from '../../../../lora/train/compute.ts';
import { trainingConfigSchema } from '../../../../lora/train/config.ts';
import type { AdamWState } from '../../../../lora/train/optimizer/adamw.ts';
import { freshOptimizer } from '../../../../lora/train/optimizer/optimizer-state.ts';
import { Trainer } from '../../../../lora/train/trainer.ts';
import { decodeUpdate, ErrorFeedback, outerStep } from '../../../../lora/update/index.ts';
import { auditFigures, type RepeatedSteps } from '../../../../lora/update/score.ts';
import { ATTACKS, type Delta } from '../../../../scripts/bench/attackers.ts';
import { pick } from '../../../../scripts/bench/round-training.ts';
import { packedRows } from '../../../../scripts/pretrain/pack-documents.ts';
import { temporaryFolder } from '../../../utils/folder.ts';

const HONEST = 3;
const BATCH = 4;
const STEPS = 8;
const TRAINING = trainingConfigSchema.parse({
  learningRate: 3e-3,
  warmupSteps: 6,
  batchSize: BATCH,
  microBatch: BATCH,
  sequenceLength: 64,
});
const PRESETS = ['balanced', 'dense', 'quality', 'tiny'] as const;
/** What the last node of the swarm does in the second round. */
const DISHONEST = ['lazy, scaled up', 'half the steps, scaled up', 'shuffled labels', 'copy', 'ALIE'];

async function bookRows(): Promise<Row[]> {
  const folder = dirname(mobyDick());
  const files = (await readdir(folder)).filter((file) => file.startsWith('chapter_')).slice(0, 20);
  const texts = await Promise.all(files.map((file) => readFile(join(folder, file), 'utf8')));
  return packedRows(texts, await loadTokenizer(nanoModel()), TRAINING);
}

async function nano(bits: BaseBits, microBatch = BATCH): Promise<Trainer> {
  const model = await openBase(nanoModel());
  const engine = await createEngine('onnx-cpu', { threads: 1 });
  const weights = await prepareWeights(model, await temporaryFolder(), { bits });
  const lora = loraConfig({ rank: 8, alpha: 16 });
  const settings = { lora, training: { ...TRAINING, microBatch }, compute: processorCompute() };
  const trainer = new Trainer(settings, { model, engine, weights });
  onTestFinished(() => trainer.dispose());
  return trainer;
}

test('audits tell honest work from other work, whatever the base bits and the preset', async () => {
  const trainer = await nano(32);
  const { layout } = trainer;
  const random = new SeededRandom(1);
  const rows = pick(await bookRows(), 2 * (HONEST + 1) * STEPS * BATCH, random);
  const intervals = (round: number): Row[][] =>
    Array.from({ length: HONEST + 1 }, (_, i) => {
      const start = (round * (HONEST + 1) + i) * STEPS * BATCH;
      return rows.slice(start, start + STEPS * BATCH);
    });
  let adapter: Delta = initialMatrices(layout, 1);
  const train = async (by: Trainer, state: AdamWState, some: readonly Row[], steps = STEPS, before = 0) => {
    by.setParameters(adapter);
    by.setOptimizerState(state);
    await by.train({ rows: some, steps, position: { start: 0, perStep: 1, before } });
    const after = by.parameters();
    return adapter.map((values, t) => values.map((value, i) => value - after[t]![i]!));
  };

  // In the first round all nodes are honest.
  const states: AdamWState[] = [];
  const first: Delta[] = [];
  for (const some of intervals(0)) {
    first.push(await train(trainer, freshOptimizer(layout), some));
    states.push(trainer.optimizerState());
  }
  const before = adapter;
  adapter = outerStep(
    adapter,
    before.map((values, t) =>
      values.map((_, i) => first.reduce((sum, d) => sum + d[t]![i]! / first.length, 0)),
    ),
    1,
  );

  const given = intervals(1);
  const updates: { name: string; node: number; delta: Delta; restores: boolean }[] = [];
  const add = (name: string, node: number, delta: Delta, restores = false): void => {
    updates.push({ name, node, delta, restores });
  };
  for (let node = 0; node < HONEST; node++)
    add('honest', node, await train(trainer, states[node]!, given[node]!));
  add('honest, after a null round', 0, updates[0]!.delta, true);
  add('honest, 8 bits', 0, await train(await nano(8), states[0]!, given[0]!));
  add('honest, 4 bits', 0, await train(await nano(4), states[0]!, given[0]!));
  add('honest, one row at a time', 0, await train(await nano(32, 1), states[0]!, given[0]!));
  add('honest, without its moments', 0, await train(trainer, freshOptimizer(layout), given[0]!));
  const honest = updates.slice(0, HONEST).map(({ delta }) => delta);
  const own = given[HONEST]!;
  for (const name of DISHONEST) {
    const work = (some: readonly Row[], steps?: number) => train(trainer, states[HONEST]!, some, steps);
    add(name, HONEST, await ATTACKS[name]!({ rows: own, steps: STEPS, honest, random, train: work }));
  }
  const quarter = own.map((_, i) => own[i % (own.length / 4)]!);
  add('a quarter of the rows', HONEST, await train(trainer, states[HONEST]!, quarter));

  // Trains the rows of each node again, with moments of zero, as the coordinator does in an audit.
  const repeated: RepeatedSteps[] = [];
  for (const some of given) {
    await train(trainer, freshOptimizer(layout), some, STEPS / 2, STEPS);
    const middle = trainer.parameters();
    await train(trainer, freshOptimizer(layout), some, STEPS, STEPS);
    repeated.push({ before: adapter, middle, after: trainer.parameters() });
  }
  for (const preset of PRESETS) {
    for (const { name, node, delta, restores } of updates) {
      const feedback = new ErrorFeedback({ layout });
      feedback.add(first[node]!);
      const sent = feedback.compress(preset).slice();
      if (restores) feedback.restore(sent);
      feedback.add(delta);
      const update = decodeUpdate(feedback.compress(preset), layout, preset);
      const found = auditFigures(update, repeated[node]!);
      const verdict = passes(found, { preset, isFirst: false });
      const what = `${preset}, ${name}: closeness ${found.closeness}, balance ${found.balance}`;
      expect.soft(verdict, what).toBe(name.startsWith('honest'));
    }
  }
}, 120_000);
