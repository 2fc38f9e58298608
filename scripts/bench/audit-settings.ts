/** Settings of the benchmark `audits`. */
import { readdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { mobyDick, nanoModel } from '../../common/samples.ts';
import { loraConfig } from '../../lora/adapter/lora-config.ts';
import type { Row } from '../../lora/data/row.ts';
import { loadTokenizer } from '../../lora/data/tokenizer.ts';
import { createEngine } from '../../lora/engines/engine.ts';
import type { Precision } from '../../lora/engines/precision.ts';
import type { BaseBits } from '../../lora/models/base/base-bits.ts';
import { openBase } from '../../lora/models/base/base-model.ts';
import { prepareWeights } from '../../lora/models/weights/prepare-weights.ts';
import { processorCompute } from '../../lora/train/compute.ts';
import { trainingConfigSchema } from '../../lora/train/config.ts';
import { Trainer } from '../../lora/train/trainer.ts';
import { packedRows } from '../pretrain/pack-documents.ts';
import { type RandomFamily, writeRandomBase } from './random-base.ts';
import { BATCH } from './round-training.ts';

/**
 * Settings with which the nodes of the benchmark train. The coordinator repeats their training with onnx-cpu on
 * a 32-bit base.
 */
export interface AuditSetting {
  readonly base: 'nano' | RandomFamily;
  /** Number of tokens in a row. */
  readonly length: number;
  /** Number of steps of a node in a round. */
  readonly steps: number;
  /** Rank of the adapter. */
  readonly rank: number;
  /** Base bits of the nodes. */
  readonly bits: BaseBits;
  readonly engine: 'onnx-cpu' | 'onnx-webgpu' | 'tfjs';
  readonly precision: Precision;
  readonly learningRate: number;
  /** Dropout of nodes and coordinator. @default 0 */
  readonly dropout?: number;
  /** NEFTune's α of nodes and coordinator. @default 0 */
  readonly neftuneAlpha?: number;
  /** Micro-batch of the nodes. The coordinator computes a whole batch at once. @default BATCH */
  readonly microBatch?: number;
}

const NANO: AuditSetting = {
  base: 'nano',
  length: 64,
  steps: 8,
  rank: 8,
  bits: 32,
  engine: 'onnx-cpu',
  precision: 'float32',
  learningRate: 3e-3,
};

/** Settings that option --shape can choose. */
export const SETTINGS: Readonly<Record<string, AuditSetting>> = {
  nano: NANO,
  'nano, 6 steps': { ...NANO, steps: 6 },
  'nano, 20 steps': { ...NANO, steps: 20 },
  'nano, rows of 32': { ...NANO, length: 32 },
  'nano, rows of 16': { ...NANO, length: 16 },
  'nano, rows of 256': { ...NANO, length: 256 },
  'nano, 8 bits': { ...NANO, bits: 8 },
  'nano, 4 bits': { ...NANO, bits: 4 },
  'nano, float16': { ...NANO, engine: 'onnx-webgpu', precision: 'float16' },
  'nano, rank 32': { ...NANO, rank: 32 },
  'nano, rate 3e-4': { ...NANO, learningRate: 3e-4 },
  'nano, NEFTune 5': { ...NANO, neftuneAlpha: 5 },
  'nano, dropout 0.1': { ...NANO, dropout: 0.1 },
  'nano, dropout 0.4': { ...NANO, dropout: 0.4 },
  'nano, dropout 0.1, micro-batch 2': { ...NANO, dropout: 0.1, microBatch: 2 },
  'nano, dropout 0.4, micro-batch 2': { ...NANO, dropout: 0.4, microBatch: 2 },
  'nano, NEFTune 5, micro-batch 2': { ...NANO, neftuneAlpha: 5, microBatch: 2 },
  llama: { ...NANO, base: 'llama' },
  'llama, rows of 32': { ...NANO, base: 'llama', length: 32 },
  'llama, 8 bits': { ...NANO, base: 'llama', bits: 8 },
  'llama, float16': { ...NANO, base: 'llama', engine: 'onnx-webgpu', precision: 'float16' },
  'llama, wide': { ...NANO, base: 'llama, wide' },
  mistral: { ...NANO, base: 'mistral' },
  qwen2: { ...NANO, base: 'qwen2' },
  qwen3: { ...NANO, base: 'qwen3' },
  gemma3: { ...NANO, base: 'gemma3' },
  gpt2: { ...NANO, base: 'gpt2' },
};

/** Makes one trainer for the nodes and one for the coordinator. */
export async function trainersOf(
  setting: AuditSetting,
  folder: string,
): Promise<{ nodes: Trainer; coordinator: Trainer; dispose: () => Promise<void> }> {
  const { base, bits, engine, microBatch = BATCH } = setting;
  const path =
    base === 'nano' ? nanoModel() : await writeRandomBase(join(folder, base.replaceAll(/\W+/g, '-')), base);
  const coordinator = await trainer(
    path,
    { ...setting, bits: 32, engine: 'onnx-cpu', precision: 'float32', microBatch: BATCH },
    folder,
  );
  const isSame = bits === 32 && engine === 'onnx-cpu' && microBatch === BATCH;
  const nodes = isSame ? coordinator : await trainer(path, setting, folder);
  const dispose = async (): Promise<void> => {
    await coordinator.dispose();
    if (!isSame) await nodes.dispose();
  };
  return { nodes, coordinator, dispose };
}

async function trainer(path: string, setting: AuditSetting, cacheDir: string): Promise<Trainer> {
  const { rank, bits, learningRate, engine: name, precision } = setting;
  const { dropout = 0, neftuneAlpha = 0, microBatch = BATCH } = setting;
  const model = await openBase(path);
  const engine = await createEngine(name, { threads: 1 });
  const weights = await prepareWeights(model, cacheDir, { bits });
  const training = { ...trainingOf(setting.length), learningRate, neftuneAlpha, microBatch };
  const settings = {
    lora: loraConfig({ rank, alpha: 2 * rank, dropout }),
    training,
    compute: { ...processorCompute(), precision },
  };
  return new Trainer(settings, { model, engine, weights });
}

function trainingOf(length: number) {
  return trainingConfigSchema.parse({
    warmupSteps: 6,
    batchSize: BATCH,
    microBatch: BATCH,
    sequenceLength: length,
  });
}

/** Returns packed rows of the text of Moby Dick. */
export async function bookRows(length: number): Promise<Row[]> {
  const folder = dirname(mobyDick());
  const files = (await readdir(folder)).filter((file) => file.startsWith('chapter_')).sort();
  const texts = await Promise.all(files.map((file) => readFile(join(folder, file), 'utf8')));
  return packedRows(texts, await loadTokenizer(nanoModel()), trainingOf(length));
}
