/** Copies of the fixtures' models that llama.cpp can compute. */
import { cp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readGguf, tensorFloats } from '../../../lora/models/gguf/reader.ts';
import { readHeader, readTensor } from '../../../lora/models/weights/safetensors.ts';
import { type TensorToWrite, writeSafetensors } from '../../../lora/models/weights/safetensors-writer.ts';

type Json = Record<string, unknown>;

/**
 * Copies a model to `dir`. Replaces its tokenizer by a tokenizer over bytes, because the tokenizer of the fixture only
 * numbers words. Changes the features that llama.cpp cannot compute.
 * @param rope rotary positions (`rope_parameters` of config.json) to use instead of the model's
 */
export async function copyForGguf(source: string, dir: string, rope?: Json): Promise<string> {
  await cp(source, dir, { recursive: true });
  const config = JSON.parse(await readFile(join(dir, 'config.json'), 'utf8')) as Json;
  if (rope !== undefined) config.rope_parameters = rope;
  config.scale_attn_by_inverse_layer_idx = false;
  if (config.model_type === 'gemma3_text') fitGemma(config);
  if (/gemma3|qwen3/.test(String(config.model_type)) && config.attention_bias)
    await removeBiases(dir, config);
  await writeFile(join(dir, 'config.json'), JSON.stringify(config));
  await writeFile(join(dir, 'tokenizer.json'), JSON.stringify(byteTokenizer(Number(config.vocab_size))));
  await writeFile(join(dir, 'tokenizer_config.json'), JSON.stringify({ eos_token: '</s>' }));
  return dir;
}

/** Sets the usual factor for attention scores, and an order of layers that llama.cpp knows. */
function fitGemma(config: Json): void {
  config.query_pre_attn_scalar = config.head_dim;
  const types = config.layer_types as string[];
  if (types[0] !== 'full_attention') return;
  config.layer_types = types.map((_, i) => (i % 2 ? 'full_attention' : 'sliding_attention'));
}

async function removeBiases(dir: string, config: Json): Promise<void> {
  config.attention_bias = false;
  const file = join(dir, 'model.safetensors');
  const { entries } = await readHeader(file);
  const tensors: TensorToWrite[] = [];
  for (const [name, entry] of entries) {
    if (name.endsWith('.bias')) continue;
    tensors.push({ name, dtype: 'F32', shape: entry.shape, data: await readTensor(file, entry) });
  }
  await writeSafetensors(file, tensors);
}

/** A tokenizer over bytes with at most `rows` tokens. Its end-of-text token has the id 0. */
function byteTokenizer(rows: number): object {
  const characters = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,;:!?-_()[]{}<>+*/=%$#@';
  const tokens = ['</s>', 'Ġ', ...characters].slice(0, rows);
  const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  return {
    version: '1.0',
    added_tokens: [{ id: 0, content: '</s>', ...flags }],
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: null,
    decoder: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    model: { type: 'BPE', vocab: Object.fromEntries(tokens.map((token, id) => [token, id])), merges: [] },
  };
}

/** Reads all tensors of a GGUF file. */
export async function readGgufTensors(path: string): Promise<Map<string, Float32Array>> {
  const found = new Map<string, Float32Array>();
  for (const [name, tensor] of (await readGguf(path)).tensors) {
    const values: number[] = [];
    for await (const piece of tensorFloats(path, tensor)) values.push(...piece);
    found.set(name, Float32Array.from(values));
  }
  return found;
}
