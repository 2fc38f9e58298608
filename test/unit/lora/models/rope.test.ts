import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { inverseFrequencies, rotaryTables } from '../../../../lora/models/rope.ts';
import { parseRope } from '../../../../lora/models/rope-config.ts';
import { FIXTURES } from '../../../utils/models/reference.ts';

async function openRope(name: string) {
  const text = await readFile(join(FIXTURES, `rope-${name}.json`), 'utf8');
  const reference = JSON.parse(text) as {
    headDim: number;
    rope: Record<string, unknown>;
    factor: number;
    frequencies: number[];
  };
  const rope = parseRope({ max_position_embeddings: 131072, rope_parameters: reference.rope });
  const plain = inverseFrequencies({ theta: rope.theta, scaling: null }, reference.headDim);
  const ours = inverseFrequencies(rope, reference.headDim);
  return { reference, rope, ours, ratios: [...ours].map((value, i) => plain[i]! / value) };
}

test.each([
  ['llama3', 32],
  ['yarn', 4],
] as const)('%s scaling gives the frequencies of transformers', async (name, factor) => {
  const { reference, ours, ratios } = await openRope(name);
  expect(ours.length).toBe(reference.frequencies.length);
  for (const [i, theirs] of reference.frequencies.entries())
    expect(Math.abs(ours[i]! / theirs - 1), `pair ${i}`).toBeLessThan(1e-6);
  // All three cases occur: the first frequency is kept, the last one is divided by the factor, and some between are
  // interpolated.
  expect(ratios[0]).toBe(1);
  expect(ratios.at(-1)).toBeCloseTo(factor, 10);
  expect(ratios.some((ratio) => ratio > 1.01 && ratio < factor - 1)).toBe(true);
});

test('YaRN scales cosine and sine as transformers does', async () => {
  const { reference, rope } = await openRope('yarn');
  const { cos, sin } = rotaryTables(rope, reference.headDim, 2);
  const half = reference.headDim / 2;
  expect(reference.factor).toBeGreaterThan(1.1);
  expect(Math.hypot(cos[half]!, sin[half]!)).toBeCloseTo(reference.factor, 6);
});

test('linear scaling divides every frequency', () => {
  const rope = parseRope({ rope_scaling: { type: 'linear', factor: 8 } });
  const plain = inverseFrequencies({ theta: 10000, scaling: null }, 8);
  expect([...inverseFrequencies(rope, 8)]).toEqual([...plain].map((value) => value / 8));
});

test('tables hold cosine and sine of position times frequency', () => {
  const { cos, sin } = rotaryTables({ theta: 10000, scaling: null }, 4, 3);
  expect([...cos.subarray(0, 2)]).toEqual([1, 1]);
  expect(cos[2 * 2]).toBeCloseTo(Math.cos(2), 6);
  expect(sin[2 * 2 + 1]).toBeCloseTo(Math.sin(2 / 100), 6);
});
