/** Compares a whole run with transformers' Trainer: see scripts/reference/make_trainer.py. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { emptyRow, type Row } from '../../../../lora/data/row.ts';
import { createEngine } from '../../../../lora/engines/engine.ts';
import { prepareWeights } from '../../../../lora/models/weights/prepare-weights.ts';
import { readHeader, readTensor } from '../../../../lora/models/weights/safetensors.ts';
import { processorCompute } from '../../../../lora/train/compute.ts';
import { trainingConfigSchema } from '../../../../lora/train/config.ts';
import { Trainer, type TrainProgress } from '../../../../lora/train/trainer.ts';
import { FIXTURES, maxDifference, openReference } from '../../../utils/models/reference.ts';
import type { TrainingOptions } from '../../../utils/models/tiny-trainer.ts';

/** Maximum difference after six steps of Adam, with float32 on both sides. */
const TOLERANCE = 1e-4;

interface TrainerReference {
  settings: TrainingOptions & { sequenceLength: number; totalSteps: number };
  rows: { tokens: number[]; labels: number[] }[];
  steps: { loss: number; grad_norm: number; learning_rate: number }[];
}

/** Returns a row with one sample at its start. Each label is the token after its position, as in all rows. */
function rowOf({ tokens, labels }: TrainerReference['rows'][number], length: number): Row {
  const row = emptyRow(length);
  row.ids.set(tokens);
  row.labels.set(labels.slice(1));
  row.segments.fill(1, 0, tokens.length);
  return row;
}

it('six accumulated steps with decay, smoothing, clipping and a falling rate equal those of transformers', async () => {
  const reference = JSON.parse(await readFile(join(FIXTURES, 'trainer.json'), 'utf8')) as TrainerReference;
  const { settings, steps } = reference;
  const { model, adapter } = await openReference('untied');
  const cacheDir = await mkdtemp(join(tmpdir(), 'trainer-parity-'));
  const engine = await createEngine('onnx-cpu', { threads: 1 });
  const training = trainingConfigSchema.parse(settings);
  const trainer = new Trainer(
    { lora: adapter.lora, training, compute: processorCompute() },
    { model, engine, weights: await prepareWeights(model, cacheDir) },
  );
  trainer.setParameters(adapter.tensors);
  const progress: TrainProgress[] = [];
  await trainer.train({
    rows: reference.rows.map((row) => rowOf(row, settings.sequenceLength)),
    steps: settings.totalSteps,
    onProgress: (step) => progress.push(step),
  });
  expect(progress).toHaveLength(steps.length);
  for (const [i, { loss, learningRate, gradientNorm }] of progress.entries()) {
    const theirs = steps[i]!;
    expect(Math.abs(loss - theirs.loss), `loss of step ${i}`).toBeLessThan(TOLERANCE);
    expect(Math.abs(gradientNorm / theirs.grad_norm - 1), `norm of step ${i}`).toBeLessThan(1e-3);
    expect(learningRate).toBeCloseTo(theirs.learning_rate, 12);
  }
  const file = join(FIXTURES, 'trainer.safetensors');
  const { entries } = await readHeader(file);
  const trained = trainer.parameters();
  for (const [i, { name }] of trainer.layout.entries()) {
    const theirs = await readTensor(file, entries.get(name)!);
    expect(maxDifference(trained[i]!, theirs), name).toBeLessThan(TOLERANCE);
    expect(maxDifference(adapter.tensors[i]!, theirs), `${name} was trained`).toBeGreaterThan(
      100 * TOLERANCE,
    );
  }
  await trainer.dispose();
  await rm(cacheDir, { recursive: true, force: true });
});
