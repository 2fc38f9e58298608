import { type FileHandle, open } from 'node:fs/promises';
import type { Row } from '../../lora/data/row.ts';
import type { WeightFile } from '../../lora/engines/engine.ts';
import { elementCount, type Shape } from '../../lora/graph/shapes.ts';
import type { Architecture } from '../../lora/models/architecture.ts';
import { FAMILIES, type ModelConfig, parseConfig } from '../../lora/models/families.ts';
import { PEFT_PREFIX } from '../../lora/models/lora.ts';

/** Measured models by their name in --shape: the parts of config.json that a training step depends on. */
export const MODELS = {
  /** SmolLM2-135M: the model of the project's first measurements. */
  '135m': {
    model_type: 'llama',
    vocab_size: 49_152,
    hidden_size: 576,
    intermediate_size: 1536,
    num_hidden_layers: 30,
    num_attention_heads: 9,
    num_key_value_heads: 3,
    rms_norm_eps: 1e-5,
    rope_theta: 10_000,
    max_position_embeddings: 2048,
    tie_word_embeddings: true,
  },
  /** Qwen2.5-0.5B: a model whose vocabulary is large relative to its blocks. */
  '0.5b': {
    model_type: 'qwen2',
    vocab_size: 151_936,
    hidden_size: 896,
    intermediate_size: 4864,
    num_hidden_layers: 24,
    num_attention_heads: 14,
    num_key_value_heads: 2,
    rms_norm_eps: 1e-6,
    rope_theta: 1_000_000,
    max_position_embeddings: 32_768,
    tie_word_embeddings: true,
  },
  /** Llama 3.2 1B: only shows whether a step of such a model fits into memory. */
  '1b': {
    model_type: 'llama',
    vocab_size: 128_256,
    hidden_size: 2048,
    intermediate_size: 8192,
    num_hidden_layers: 16,
    num_attention_heads: 32,
    num_key_value_heads: 8,
    rms_norm_eps: 1e-5,
    rope_theta: 500_000,
    max_position_embeddings: 131_072,
    tie_word_embeddings: true,
  },
} as const;

export interface BenchShape {
  readonly model: keyof typeof MODELS;
  /** Number of tokens per row. */
  readonly length: number;
  /**
   * Number of turns of each contestant. Turns and steps are chosen so that the benchmark takes at most nine
   * minutes on two cores.
   */
  readonly turns: number;
  /**
   * Number of steps in a turn. If it is above 1, the first step does not count, because it warms up caches and
   * allocators.
   */
  readonly steps: number;
}

/** Every shape by its name. */
export const SHAPES: ReadonlyMap<string, BenchShape> = new Map<string, BenchShape>([
  ['135m-128', { model: '135m', length: 128, turns: 3, steps: 4 }],
  ['135m-512', { model: '135m', length: 512, turns: 2, steps: 3 }],
  ['135m-1024', { model: '135m', length: 1024, turns: 2, steps: 2 }],
  ['0.5b-128', { model: '0.5b', length: 128, turns: 2, steps: 3 }],
  ['0.5b-512', { model: '0.5b', length: 512, turns: 1, steps: 2 }],
  ['0.5b-1024', { model: '0.5b', length: 1024, turns: 1, steps: 2 }],
  ['1b-128', { model: '1b', length: 128, turns: 1, steps: 1 }],
]);
export const DEFAULT_SHAPE = '135m-128';
export const ROWS = 4;
export const RANK = 16;
/** Fraction of tokens that are supervised in typical instruction data. */
export const SUPERVISED_SHARE = 0.3;

export interface Setup {
  path: string;
  threads: number;
  rows: number;
  rowTokens: number;
  rank: number;
  config: ModelConfig;
  /** Content of the model's config.json. */
  huggingFaceConfig: object;
  /** Places of the tensors in the file, in bytes: base parameters, then adapters. Each offset is a multiple of 4,096. */
  entries: [name: string, place: { offset: number; length: number; shape: Shape }][];
}

export function architectureOf(config: ModelConfig): Architecture {
  return FAMILIES[config.family] as unknown as Architecture;
}

/** Returns the target modules: every linear layer except the head, as with PEFT's `all-linear`. */
export function adaptedModules(config: ModelConfig) {
  const architecture = architectureOf(config);
  return architecture.linearModules(config).filter(({ name }) => name !== architecture.head);
}

/** Returns a token of the batch and its label. All contestants get the same tokens, spread over the vocabulary. */
export function tokenAt(index: number, vocabulary: number): { id: number; label: number } {
  return { id: (index * 7919) % vocabulary, label: ((index + 1) * 104_729) % vocabulary };
}

/** Returns a batch in which the last tokens of each row are supervised. @param share fraction of supervised tokens */
export function benchRows({ config, rows, rowTokens }: Setup, share: number): Row[] {
  return Array.from({ length: rows }, (_, row) => {
    const tokens = Array.from({ length: rowTokens }, (_, t) =>
      tokenAt(row * rowTokens + t, config.vocabularySize),
    );
    return {
      ids: Uint32Array.from(tokens, ({ id }) => id),
      labels: Int32Array.from(tokens, ({ label }, t) => (t < (1 - share) * rowTokens ? -100 : label)),
      segments: new Uint16Array(rowTokens),
    };
  });
}

const ALIGNMENT = 4096;

/**
 * Writes random weights of the base and of the adapter to a file (1 for norms), so that all compared programs compute
 * the same loss.
 */
export async function writeSetup(
  path: string,
  { model, length: rowTokens }: Pick<BenchShape, 'model' | 'length'>,
  threads: number,
): Promise<Setup> {
  const config = parseConfig(MODELS[model]);
  const adapters = adaptedModules(config).flatMap((module) => [
    { name: `${PEFT_PREFIX}${module.name}.lora_A.weight`, shape: [RANK, module.in] },
    { name: `${PEFT_PREFIX}${module.name}.lora_B.weight`, shape: [module.out, RANK] },
  ]);
  const entries: Setup['entries'] = [];
  const file = await open(path, 'w');
  try {
    let offset = 0;
    for (const { name, shape } of [...architectureOf(config).parameters(config), ...adapters]) {
      const length = 4 * elementCount(shape);
      await writeRandom(file, offset, elementCount(shape), name);
      entries.push([name, { offset, length, shape }]);
      offset = Math.ceil((offset + length) / ALIGNMENT) * ALIGNMENT;
    }
  } finally {
    await file.close();
  }
  const huggingFaceConfig = MODELS[model];
  return { path, threads, rows: ROWS, rowTokens, rank: RANK, config, huggingFaceConfig, entries };
}

export function weightFile(setup: Setup): WeightFile {
  return { path: setup.path, entries: new Map(setup.entries) };
}

/**
 * Writes values that are uniform in ±0.035, the spread of a trained model of this size. Values of lora_B are uniform in
 * ±0.005, as after some training. Norms are 1.
 */
async function writeRandom(file: FileHandle, offset: number, count: number, name: string): Promise<void> {
  const spread = name.includes('lora_B') ? 0.005 : 0.035;
  let state = 0x9e3779b9 ^ offset ^ 1;
  const data = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    data[i] = name.includes('norm') ? 1 : (state / 2 ** 31) * spread;
  }
  await file.write(data, 0, data.byteLength, offset);
}
