/** A random Llama of about 30,000 parameters, as a complete Hugging Face folder that can be trained. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { llama } from '../../../lora/models/families/llama.ts';
import { writeSafetensors } from '../../../lora/models/weights/safetensors-writer.ts';
import { countWords, trainBpe } from '../../../scripts/pretrain/bpe.ts';
import { initialWeights } from '../../../scripts/pretrain/initialise.ts';
import { SPECIAL_TOKENS, writeTokenizer } from '../../../scripts/pretrain/tokenizer-files.ts';

export interface TinyModelOptions {
  /** @default 1 */
  seed?: number;
  /** Number of tokens, at least 258: two special tokens and the bytes. @default 300 */
  vocabSize?: number;
  /** @default 32 */
  hiddenSize?: number;
  /** @default 2 */
  layers?: number;
  /** Whether the output head shares the embedding table. @default true */
  tied?: boolean;
  /** @default 64 */
  maxPositions?: number;
  /** Standard deviation of the weights; the default makes predictions clearly differ between tokens. @default 0.1 */
  deviation?: number;
}

/** The text that the tokenizer is trained on; also usable as training data. */
export const TINY_TEXT = `It was the best of times, it was the worst of times, it was the age of wisdom, it was
the age of foolishness, it was the epoch of belief, it was the epoch of incredulity, it was the season of light,
it was the season of darkness, it was the spring of hope, it was the winter of despair.`;

/** Writes the model into `dir` (created if missing) and returns `dir`. Equal options give equal files. */
export async function makeTinyModel(dir: string, options: TinyModelOptions = {}): Promise<string> {
  const {
    seed = 1,
    vocabSize = 300,
    hiddenSize = 32,
    layers = 2,
    tied = true,
    maxPositions = 64,
    deviation = 0.1,
  } = options;
  const config = {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    vocab_size: vocabSize,
    hidden_size: hiddenSize,
    intermediate_size: 2 * hiddenSize,
    num_hidden_layers: layers,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    hidden_act: 'silu',
    max_position_embeddings: maxPositions,
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    tie_word_embeddings: tied,
    bos_token_id: 0,
    eos_token_id: 1,
  };
  const parsed = llama.parseConfig(config);
  const parameters = llama.parameters(parsed);
  const weights = initialWeights(parameters, { layers, deviation, seed });
  await mkdir(dir, { recursive: true });
  await writeTokenizer(dir, trainBpe(countWords([TINY_TEXT]), vocabSize, SPECIAL_TOKENS), maxPositions);
  await writeFile(join(dir, 'config.json'), JSON.stringify(config));
  await writeSafetensors(
    join(dir, 'model.safetensors'),
    parameters.map(({ name, shape }, i) => ({ name, shape, dtype: 'F32', data: weights[i]! })),
  );
  return dir;
}
