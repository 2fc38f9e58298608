import { copyFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { elementCount } from '../../lora/graph/shapes.ts';
import { parseConfig } from '../../lora/models/families.ts';
import { encodeFloats } from '../../lora/models/weights/dtypes.ts';
import { writeSafetensors } from '../../lora/models/weights/safetensors-writer.ts';
import { SINGLE_FILE } from '../../lora/models/weights/tensors.ts';
import { architectureOf, MODELS } from './train-step-setup.ts';

/** Number of values generated at a time, so that a model of a billion parameters is never in memory as a whole. */
const PIECE = 2 ** 20;
/** Weights are uniform in ± this value, which is about the spread of a trained model's weights. */
const SPREAD = 0.035;

/**
 * Writes a model folder with random weights in bf16. The tokenizer is a copy of the tokenizer of models/nano. Any other
 * tokenizer would be suitable too, because the benchmark encodes no text.
 */
export async function writeRandomModel(dir: string, model: keyof typeof MODELS): Promise<string> {
  const config = parseConfig(MODELS[model]);
  const tensors = architectureOf(config)
    .parameters(config)
    .map(({ name, shape }, index) => {
      const values = name.includes('norm') ? ones : (count: number) => uniform(count, index + 1);
      return { name, shape, dtype: 'BF16' as const, data: () => pieces(elementCount(shape), values) };
    });
  await writeFile(join(dir, 'config.json'), JSON.stringify(MODELS[model]));
  const tokenizer = fileURLToPath(new URL('../../models/nano/tokenizer.json', import.meta.url));
  await copyFile(tokenizer, join(dir, 'tokenizer.json'));
  await writeSafetensors(join(dir, SINGLE_FILE), tensors);
  return dir;
}

/**
 * Yields the same piece repeatedly. The repetition does not affect quantisation, which looks at one tile (4 bits) or
 * one row (8 bits) at a time.
 */
async function* pieces(count: number, values: (count: number) => Float32Array): AsyncGenerator<Uint8Array> {
  const piece = encodeFloats(values(Math.min(PIECE, count)), 'BF16');
  for (let left = count; left > 0; left -= PIECE)
    yield left < PIECE ? piece.subarray(0, left * Uint16Array.BYTES_PER_ELEMENT) : piece;
}

function ones(count: number): Float32Array {
  return new Float32Array(count).fill(1);
}

function uniform(count: number, seed: number): Float32Array {
  let state = (seed * 0x9e3779b9) | 1;
  return Float32Array.from({ length: count }, () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state / 2 ** 31) * SPREAD;
  });
}
