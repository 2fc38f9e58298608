import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readPeftFolder } from '../../../../lora/adapter/peft.ts';
import { createEngine, type Engine } from '../../../../lora/engines/engine.ts';
import { servedAdapter } from '../../../../lora/generate/adapters.ts';
import { predictorFor } from '../../../../lora/generate/predictor.ts';
import { mostLikely } from '../../../../lora/generate/sampling.ts';
import { openBase } from '../../../../lora/models/base/base-model.ts';
import { prepareWeights } from '../../../../lora/models/weights/prepare-weights.ts';
import { openAdapterCase } from '../../../../scripts/reference/adapter-parity.ts';
import { continued, GREEDY, openDecoder } from '../../../utils/models/generate.ts';
import { FIXTURES, maxDifference } from '../../../utils/models/reference.ts';

let cacheDir: string;
let engine: Engine;
beforeAll(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), 'decode-'));
  engine = await createEngine('onnx-cpu', { threads: 1 });
});
afterAll(() => rm(cacheDir, { recursive: true, force: true }));

/** Largest difference of log-probabilities from transformers and PEFT in float32. */
const CLOSE = 1e-4;

describe.each(Object.entries(GREEDY))('%s', (variant, { prompt, base: plain, adapter: adapted }) => {
  test('continues as transformers and PEFT do, and scores so', async () => {
    const dir = join(FIXTURES, variant);
    const { decoder, scheduler, adapter } = await openDecoder(dir, cacheDir, engine);
    const { served } = await adapter(join(dir, 'adapter'));
    const together = scheduler();
    const [first, second] = await Promise.all([
      continued(together, prompt, { logprobs: 2 }),
      continued(together, prompt, { logprobs: 2, adapter: served }),
    ]);
    for (const [found, expected] of [
      [first, plain],
      [second, adapted],
    ] as const) {
      expect(found.ids).toEqual(expected.ids);
      const logprobs = found.chosen.map(({ logprob }) => logprob!);
      expect(maxDifference(logprobs, expected.logprobs)).toBeLessThan(CLOSE);
      expect(found.chosen.map(({ top }) => top[0]!.logprob)).toEqual(logprobs);
    }
    const { signal } = new AbortController();
    const request = { tokens: [...prompt, ...adapted.ids], adapter: served, top: 1, from: 1, client: '' };
    const scores = (await scheduler().score(request, signal)).slice(prompt.length);
    const logprobs = scores.map(({ logprob }) => logprob!);
    expect(maxDifference(logprobs, adapted.logprobs)).toBeLessThan(CLOSE);
    expect(scores.map(({ top }) => top![0]!.id)).toEqual(adapted.ids);
    await decoder.dispose();
  });
});

// Adapters that need a separate graph, because they have DoRA, saved modules, biases or an adapted embedding.
const OWN_GRAPH = [
  'dora-rslora-head',
  'embedding-tied',
  'gemma3-dora',
  'gpt2-bias-all',
  'saved',
  'qwen2-bias-dora',
];

test.each(OWN_GRAPH)('%s: a cache gives the same logits as computing all tokens again', async (name) => {
  const { model, adapter: read } = await openAdapterCase(name);
  expect(servedAdapter(model, read).modules).toBeNull();
  const weights = await prepareWeights(model, cacheDir);
  const bundle = { model, weights, adapter: read, engine, tokenizer: null as never };
  const { compileDynamic: _, ...recomputing } = engine;
  const [cached, whole] = [predictorFor(bundle, 12), predictorFor({ ...bundle, engine: recomputing }, 12)];
  const context = [3, 11, 7, 5, 2];
  for (let i = 0; i < 6; i++) {
    const [found, expected] = [await cached.next(context), await whole.next(context)];
    expect(maxDifference(found, expected)).toBeLessThan(CLOSE);
    context.push(mostLikely(expected));
  }
  await Promise.all([cached.dispose(), whole.dispose()]);
});

test('an adapter whose values could spoil the texts of other adapters is refused', async () => {
  const model = await openBase(join(FIXTURES, 'llama-tiny-tied'));
  const read = await readPeftFolder(join(FIXTURES, 'llama-tiny-tied', 'adapter'), model);
  for (const value of [3e38, Number.NaN]) {
    const tensors = read.tensors.map((values, i) => (i === 0 ? values.map(() => value) : values));
    expect(() => servedAdapter(model, { ...read, tensors })).toThrowError(
      expect.objectContaining({ code: 'ADAPTER_NOT_FINITE' }),
    );
  }
});
