/** A trainer on a tiny random model, with rows of real text. */
import { join } from 'node:path';
import type { z } from 'zod';
import { initialMatrices } from '../../../lora/adapter/initial.ts';
import { loraConfig } from '../../../lora/adapter/lora-config.ts';
import type { Row } from '../../../lora/data/row.ts';
import { loadTokenizer } from '../../../lora/data/tokenizer.ts';
import { createEngine, type Engine } from '../../../lora/engines/engine.ts';
import { openBase } from '../../../lora/models/base/base-model.ts';
import { prepareWeights } from '../../../lora/models/weights/prepare-weights.ts';
import { processorCompute, type ResolvedCompute } from '../../../lora/train/compute.ts';
import { trainingConfigSchema } from '../../../lora/train/config.ts';
import { Trainer, type TrainerSettings } from '../../../lora/train/trainer.ts';
import { packedRows } from '../../../scripts/pretrain/pack-documents.ts';
import { maxDifference } from './reference.ts';
import { makeTinyModel, TINY_TEXT } from './tiny-model.ts';

/** `TrainingConfig` with optional keys. */
export type TrainingOptions = z.input<typeof trainingConfigSchema>;

/** Tokens per row. */
export const TINY_LENGTH = 16;

export function tinySettings(
  training: TrainingOptions = {},
  compute: Partial<ResolvedCompute> = {},
): TrainerSettings & { compute: ResolvedCompute } {
  return {
    compute: processorCompute({ threads: 1, ...compute }),
    lora: loraConfig({ rank: 4, alpha: 8 }),
    training: trainingConfigSchema.parse({
      learningRate: 1e-2,
      warmupSteps: 2,
      batchSize: 4,
      microBatch: 2,
      sequenceLength: TINY_LENGTH,
      ...training,
    }),
  };
}

/** Writes the model below `dir` unless it is there, and opens it. */
export async function tinyDeps(dir: string) {
  const modelDir = await makeTinyModel(join(dir, 'model'));
  const model = await openBase(modelDir);
  const cacheDir = join(dir, 'cache');
  const weights = await prepareWeights(model, cacheDir);
  const engine = await createEngine('onnx-cpu', { threads: 1 });
  const tokenizer = await loadTokenizer(modelDir);
  return { model, engine, weights, tokenizer, modelDir, cacheDir };
}

export type TinyDeps = Awaited<ReturnType<typeof tinyDeps>>;

export function tinyTrainer(deps: TinyDeps, training: TrainingOptions = {}): Trainer {
  return new Trainer(tinySettings(training), deps);
}

/** Rows of a text that repeats itself, so that a few steps lower the loss. */
export async function tinyRows({ tokenizer }: TinyDeps, count: number): Promise<Row[]> {
  const rows = await packedRows([TINY_TEXT, TINY_TEXT], tokenizer, { sequenceLength: TINY_LENGTH });
  return Array.from({ length: count }, (_, i) => rows[i % rows.length]!);
}

/** Trains on each engine for five steps on the same rows. Returns the trainers, and the difference of the adapters of the first two. */
export async function trainOnEach(
  engines: readonly Engine[],
  { deps, rows, training = {} }: { deps: TinyDeps; rows: readonly Row[]; training?: TrainingOptions },
): Promise<{ trainers: Trainer[]; difference: number }> {
  const trainers = engines.map((engine) => tinyTrainer({ ...deps, engine }, training));
  const start = initialMatrices(trainers[0]!.layout, 7);
  for (const trainer of trainers) {
    trainer.setParameters(start);
    await trainer.train({ rows, steps: 5 });
  }
  const [found, expected] = trainers.map((trainer) => trainer.parameters());
  const differences = found!.map((values, i) => maxDifference(values, expected![i]!));
  return { trainers, difference: Math.max(...differences) };
}
