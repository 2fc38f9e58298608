import { join } from 'node:path';
import { expect, test } from 'vitest';
import { encodeBlocks } from '../../../../../lora/models/gguf/blocks.ts';
import { readGguf, tensorBytes, tensorFloats } from '../../../../../lora/models/gguf/reader.ts';
import { FIXTURES } from '../../../../utils/models/reference.ts';

const file = join(FIXTURES, 'gguf', 'blocks.gguf');
const TYPES = ['F16', 'BF16', 'Q4_0', 'Q4_1', 'Q5_0', 'Q5_1', 'Q8_0', 'Q4_K', 'Q5_K', 'Q6_K'];

async function weightsOf(name: string): Promise<number[]> {
  const { tensors } = await readGguf(file);
  const values: number[] = [];
  for await (const part of tensorFloats(file, tensors.get(name)!)) values.push(...part);
  return values;
}

test.each(TYPES)('%s has the same weights as by gguf, bit for bit', async (type) => {
  const { tensors } = await readGguf(file);
  expect(tensors.get(`${type}.blocks`)).toMatchObject({ type, shape: [3, expect.any(Number)] });
  expect(await weightsOf(`${type}.blocks`)).toEqual(await weightsOf(`${type}.weights`));
});

test('weights as Q8_0 are the same bytes as by gguf', async () => {
  const { tensors } = await readGguf(file);
  const expected: Uint8Array[] = [];
  for await (const part of tensorBytes(file, tensors.get('quantised.blocks')!)) expected.push(part);
  const weights = Float32Array.from(await weightsOf('quantised.weights'));
  expect(Buffer.from(encodeBlocks(weights, 'Q8_0'))).toEqual(Buffer.concat(expected));
});
