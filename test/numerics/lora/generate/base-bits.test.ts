import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createEngine, type Engine, type WeightFile } from '../../../../lora/engines/engine.ts';
import { servedAdapter } from '../../../../lora/generate/adapters.ts';
import { DecodeModel } from '../../../../lora/generate/decode-model.ts';
import { openGenerator } from '../../../../lora/generate/generator.ts';
import { RowCache } from '../../../../lora/generate/row-cache.ts';
import { logSumExp } from '../../../../lora/generate/sampling.ts';
import { type BaseModel, openBase } from '../../../../lora/models/base/base-model.ts';
import { jointProducts } from '../../../../lora/models/joint-products.ts';
import { prepareWeights } from '../../../../lora/models/weights/prepare-weights.ts';
import { quantiseBlocks } from '../../../../lora/models/weights/quantise-blocks.ts';
import { prepareServingWeights } from '../../../../lora/models/weights/serving-weights.ts';
import { openAdapterCase } from '../../../../scripts/reference/adapter-parity.ts';
import { GREEDY } from '../../../utils/models/generate.ts';
import { FIXTURES, maxDifference } from '../../../utils/models/reference.ts';

let cacheDir: string;
let engine: Engine;
beforeAll(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), 'decode-bits-'));
  engine = await createEngine('onnx-cpu', { threads: 1 });
});
afterAll(() => rm(cacheDir, { recursive: true, force: true }));

const LENGTH = 24;

/** Returns the log-probabilities after each token, computed in pieces of `sizes` tokens. */
async function logprobsOf(model: BaseModel, weights: WeightFile, sizes: number[], exact: boolean) {
  const decoder = new DecodeModel({ model, weights, context: LENGTH }, { compile: engine.compileDynamic! });
  const cache = new RowCache(model.config, 1, LENGTH);
  const ids = Array.from({ length: LENGTH }, (_, i) => (i * 37 + 5) % model.config.vocabularySize);
  const rows: number[][] = [];
  let start = 0;
  for (const size of sizes) {
    const tokens = ids.slice(start, start + size);
    const run = { cache, tokens: [tokens], cached: [start], adapters: [null], exact };
    const logits = await decoder.run({ ...run, wanted: [...tokens.keys()] });
    for (const row of logits) {
      const normaliser = logSumExp(row);
      rows.push(Array.from(row, (logit) => logit - normaliser));
    }
    start += size;
  }
  await decoder.dispose();
  return rows;
}

/** Mean Kullback–Leibler divergence in nats. */
function divergence(exact: number[][], found: number[][]): number {
  const rows = exact.map((row, t) =>
    row.reduce((sum, logprob, i) => sum + Math.exp(logprob) * (logprob - found[t]![i]!), 0),
  );
  return rows.reduce((sum, value) => sum + value, 0) / rows.length;
}

const ALONE = new Array<number>(LENGTH).fill(1);

describe.each(Object.keys(GREEDY))('%s', (variant) => {
  test.each([
    { bits: 8, limit: 2e-3 },
    { bits: 4, limit: 0.1 },
  ] as const)('keeps its predictions with base bits $bits', async ({ bits, limit }) => {
    const model = await openBase(join(FIXTURES, variant));
    const whole = await logprobsOf(model, await prepareWeights(model, cacheDir), [LENGTH], false);
    const weights = await prepareServingWeights(model, cacheDir, { bits });
    const inFloat32 = await logprobsOf(model, weights, [LENGTH], true);
    expect(divergence(whole, inFloat32)).toBeLessThan(limit);
    expect(divergence(whole, await logprobsOf(model, weights, ALONE, false))).toBeLessThan(limit);
    // In float32, it does not matter how a sequence is divided.
    const divided = await logprobsOf(model, weights, [5, 1, LENGTH - 6], true);
    expect(maxDifference(divided.flat(), inFloat32.flat())).toBeLessThan(1e-4);
  });
});

test('an adapter with a graph of its own is applied to weights in float32', async () => {
  const { model, adapter } = await openAdapterCase('dora-rslora-head');
  const served = servedAdapter(model, adapter);
  const float32 = await prepareWeights(model, cacheDir);
  const run = async (weights: WeightFile) => {
    const deps = { compile: engine.compileDynamic!, float32: async () => float32 };
    const decoder = new DecodeModel({ model, weights, context: 8 }, deps);
    const cache = new RowCache(model.config, 1, 8);
    const tokens = [[3, 9, 4]];
    const [logits] = await decoder.run({ cache, tokens, cached: [0], adapters: [served], wanted: [2] });
    await decoder.dispose();
    return logits!;
  };
  const rounded = await run(await prepareServingWeights(model, cacheDir, { bits: 8 }));
  expect(rounded).toEqual(await run(float32));
});

test('a generator with an 8-bit base generates, and scores in float32', async () => {
  const base = join(FIXTURES, 'llama-tiny-tied');
  const { prompt } = GREEDY['llama-tiny-tied']!;
  const generator = await openGenerator({ base, cacheDir, compute: { threads: 1, baseBits: 8 } });
  const { ids } = await generator.submit({ tokens: prompt, maxTokens: 10, endTokens: [] }).result;
  expect(ids).toHaveLength(10);
  const tokens = [...prompt, ...ids];
  const whole = await generator.score({ tokens });
  const part = await generator.score({ tokens, from: 9 });
  for (const [i, { logprob }] of part.slice(9).entries())
    expect(logprob).toBeCloseTo(whole[9 + i]!.logprob!, 4);
  await generator.close();
});

describe('quantising blocks', () => {
  async function* pieces(values: Float32Array) {
    for (let i = 0; i < values.length; i += 50) yield values.subarray(i, i + 50);
  }
  /** Returns the numbers that codes and scales stand for, [outputs, blocks · 32]. */
  const numbersOf = ({ codes, scales }: { codes: Uint8Array; scales: Float32Array }, bits: 4 | 8) =>
    Array.from({ length: scales.length * 32 }, (_, i) => {
      const code = bits === 8 ? codes[i]! - 128 : ((codes[i >> 1]! >> (4 * (i & 1))) & 15) - 8;
      return code * scales[i >> 5]!;
    });

  test.each([8, 4] as const)(
    'rounds to the nearest of %i bits, also from a transposed matrix',
    async (bits) => {
      const [out, width] = [3, 40];
      const plain = Float32Array.from({ length: out * width }, (_, i) => Math.sin(i * i) * (1 + (i % 7)));
      plain.fill(0, 32, 40);
      const made = await quantiseBlocks(pieces(plain), { shape: [out, width], isTransposed: false, bits });
      const found = numbersOf(made, bits);
      for (let i = 0; i < out * 64; i++) {
        const [row, column] = [Math.floor(i / 64), i % 64];
        const value = column < width ? plain[row * width + column]! : 0;
        const step = Math.abs(made.scales[i >> 5]!);
        // At 4 bits the largest weights of a block may be clipped.
        expect(Math.abs(found[i]! - value)).toBeLessThanOrEqual(step * (bits === 8 ? 0.501 : 3));
      }
      const turned = Float32Array.from(plain, (_, i) => plain[(i % out) * width + Math.floor(i / out)]!);
      const shape = [width, out] as const;
      expect(await quantiseBlocks(pieces(turned), { shape, isTransposed: true, bits })).toEqual(made);
    },
  );
});

test('finds modules that read the same values', async () => {
  const names = async (variant: string) => {
    const products = jointProducts(await openBase(join(FIXTURES, variant)));
    return products.map(({ modules }) => modules.map(({ name }) => name.split('.').slice(-2).join('.')));
  };
  const [first] = await names('families/qwen2');
  expect(first).toEqual(['self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj']);
  expect(await names('families/qwen2')).toHaveLength(4);
  expect(await names('families/gpt2')).toEqual([]);
});
