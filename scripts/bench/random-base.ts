/** Bases of several families with random weights, for benchmarks that need more than models/nano. */
import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { SeededRandom } from '../../lora/data/seeded-random.ts';
import { elementCount } from '../../lora/graph/shapes.ts';
import { parseConfig } from '../../lora/models/families.ts';
import { writeSafetensors } from '../../lora/models/weights/safetensors-writer.ts';
import { SINGLE_FILE } from '../../lora/models/weights/tensors.ts';
import { architectureOf } from './train-step-setup.ts';

/**
 * Standard deviation of the weights. With this value, a random base learns faster than with the usual value
 * of 0.02.
 */
const DEVIATION = 0.06;
/** Vocabulary size: the number of tokens of the tokenizer of models/nano. */
const VOCABULARY = 4096;

const SIZES = {
  vocab_size: VOCABULARY,
  hidden_size: 128,
  intermediate_size: 320,
  num_hidden_layers: 4,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  rms_norm_eps: 1e-6,
  rope_theta: 10_000,
  max_position_embeddings: 512,
  tie_word_embeddings: true,
};

/** The parts of config.json that decide the shape of a base, by family. */
const CONFIGS = {
  llama: { ...SIZES, model_type: 'llama' },
  'llama, wide': {
    ...SIZES,
    model_type: 'llama',
    hidden_size: 384,
    intermediate_size: 1024,
    num_attention_heads: 8,
  },
  mistral: { ...SIZES, model_type: 'mistral', sliding_window: 64 },
  qwen2: { ...SIZES, model_type: 'qwen2' },
  qwen3: { ...SIZES, model_type: 'qwen3', head_dim: 32 },
  gemma3: {
    ...SIZES,
    model_type: 'gemma3_text',
    head_dim: 32,
    hidden_activation: 'gelu_pytorch_tanh',
    query_pre_attn_scalar: 32,
    sliding_window: 64,
    sliding_window_pattern: 2,
    rope_local_base_freq: 10_000,
  },
  gpt2: {
    model_type: 'gpt2',
    vocab_size: VOCABULARY,
    n_embd: 128,
    n_layer: 4,
    n_head: 4,
    n_positions: 512,
    layer_norm_epsilon: 1e-5,
    activation_function: 'gelu_new',
    tie_word_embeddings: true,
  },
} as const;

export type RandomFamily = keyof typeof CONFIGS;

/** Writes a base with random weights and the tokenizer of models/nano. Returns its folder. */
export async function writeRandomBase(dir: string, family: RandomFamily): Promise<string> {
  const config = parseConfig(CONFIGS[family]);
  const tensors = architectureOf(config)
    .parameters(config)
    .map(({ name, shape }, index) => {
      const data = new Float32Array(elementCount(shape));
      const random = new SeededRandom(1, index);
      if (shape.length > 1) for (let i = 0; i < data.length; i++) data[i] = DEVIATION * random.normal();
      // Norms of Gemma add 1 to their weights, so these weights stay 0.
      else if (name.endsWith('weight') && family !== 'gemma3') data.fill(1);
      return { name, shape, dtype: 'F32' as const, data };
    });
  await mkdir(dir, { recursive: true });
  await writeFile(join(dir, 'config.json'), JSON.stringify(CONFIGS[family]));
  const tokenizer = fileURLToPath(new URL('../../models/nano/tokenizer.json', import.meta.url));
  await copyFile(tokenizer, join(dir, 'tokenizer.json'));
  await writeSafetensors(join(dir, SINGLE_FILE), tensors);
  return dir;
}
