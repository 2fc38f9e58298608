import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { decodeBlocks, encodeBlocks } from '../../../../../lora/models/gguf/blocks.ts';
import { readGguf, tensorFloats } from '../../../../../lora/models/gguf/reader.ts';
import { quantiseBlocks } from '../../../../../lora/models/weights/quantise-blocks.ts';
import { FIXTURES } from '../../../../utils/models/reference.ts';

const file = join(FIXTURES, 'gguf', 'blocks.gguf');

/** Returns the weights that a quantised matrix stands for. */
async function requantised(values: Float32Array, rows: number, bits: 4 | 8): Promise<Float32Array> {
  const shape = [rows, values.length / rows] as const;
  const chunks = (async function* () {
    yield values;
  })();
  const { codes, scales } = await quantiseBlocks(chunks, { shape, isTransposed: false, bits });
  const codeOf = (i: number): number =>
    bits === 8 ? codes[i]! - 128 : ((codes[i >> 1]! >> (4 * (i & 1))) & 15) - 8;
  // Adding 0 turns −0 into 0.
  return Float32Array.from(values, (_, i) => codeOf(i) * scales[i >> 5]! + 0);
}

async function fromFixture(name: string): Promise<Float32Array> {
  const { tensors } = await readGguf(file);
  const values: number[] = [];
  for await (const part of tensorFloats(file, tensors.get(name)!)) values.push(...part);
  return Float32Array.from(values, (value) => value + 0);
}

describe('weights of GGUF blocks keep their exact values', () => {
  test.each([
    ['Q8_0', 8],
    ['Q4_0', 8],
    ['Q4_0', 4],
  ] as const)('%s at %i bits, with any codes', async (type, bits) => {
    const values = await fromFixture(`${type}.blocks`);
    expect(await requantised(values, 3, bits)).toEqual(values);
  });

  test('Q8_0 as this program exports it', async () => {
    const plain = Float32Array.from({ length: 640 }, (_, i) => Math.sin(i * i) * (1 + (i % 7)));
    const values = decodeBlocks(encodeBlocks(plain, 'Q8_0'), 'Q8_0').map((value) => value + 0);
    expect(await requantised(values, 2, 8)).toEqual(values);
    expect(await requantised(plain, 2, 8)).not.toEqual(plain);
  });

  test.each(['Q4_1', 'Q5_1', 'Q4_K'] as const)('%s has minima, which 4 bits do not keep', async (type) => {
    const values = await fromFixture(`${type}.blocks`);
    expect(await requantised(values, 3, 4)).not.toEqual(values);
  });
});
