import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parseConfig } from '../../../lora/models/families.ts';
import { inverseFrequencies, rotaryTables } from '../../../lora/models/rope.ts';
import { FIXTURES } from '../../utils/reference.ts';

test('the frequencies of Llama 3.2 are those of transformers', async () => {
  const reference = JSON.parse(await readFile(join(FIXTURES, 'rope-llama3.json'), 'utf8')) as {
    headDim: number;
    rope: Record<string, unknown>;
    frequencies: number[];
  };
  const { rope } = parseConfig({
    model_type: 'llama',
    hidden_size: 2048,
    intermediate_size: 1,
    num_attention_heads: 32,
    num_hidden_layers: 1,
    vocab_size: 1,
    rope_parameters: reference.rope,
  });
  const ours = inverseFrequencies(rope, reference.headDim);
  expect(ours.length).toBe(reference.frequencies.length);
  for (const [i, theirs] of reference.frequencies.entries())
    expect(Math.abs(ours[i]! / theirs - 1), `pair ${i}`).toBeLessThan(1e-6);
  // All three branches of the rule are in it: kept, divided by 32, blended.
  const plain = inverseFrequencies({ theta: rope.theta, scaling: null }, reference.headDim);
  const ratios = [...ours].map((value, i) => plain[i]! / value);
  expect(ratios[0]).toBe(1);
  expect(ratios.at(-1)).toBeCloseTo(32, 10);
  expect(ratios.some((ratio) => ratio > 1.01 && ratio < 31)).toBe(true);
});

test('tables hold cosine and sine of position times frequency', () => {
  const { cos, sin } = rotaryTables({ theta: 10000, scaling: null }, 4, 3);
  expect([...cos.subarray(0, 2)]).toEqual([1, 1]);
  expect(cos[2 * 2]).toBeCloseTo(Math.cos(2), 6);
  expect(sin[2 * 2 + 1]).toBeCloseTo(Math.sin(2 / 100), 6);
});
