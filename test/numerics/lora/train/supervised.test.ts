import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, test } from 'vitest';
import { adapterLayout } from '../../../../lora/adapter/layout.ts';
import { loraConfig } from '../../../../lora/adapter/lora-config.ts';
import { IGNORED_LABEL } from '../../../../lora/data/row.ts';
import { createEngine, type Engine, type Executable } from '../../../../lora/engines/engine.ts';
import { prepareWeights } from '../../../../lora/models/weights/prepare-weights.ts';
import { adaptedParameters } from '../../../../lora/train/adapted-model.ts';
import {
  lossAndGradients,
  lossGraph,
  type Runnable,
  rowLosses,
  trainingGraph,
} from '../../../../lora/train/step.ts';
import {
  isSized,
  SizedExecutables,
  supervisedFeeds,
  supervisedSize,
} from '../../../../lora/train/supervised.ts';
import {
  completionRows,
  FAMILY_FIXTURES,
  openFamily,
  relativeDifference,
} from '../../../utils/models/families.ts';
import { numbers } from '../../../utils/models/graphs.ts';

const BATCH = 3;
const LENGTH = 32;
/** Maximum difference between float32 results whose sums have another order. */
const TOLERANCE = 2e-5;
const RUN = { batch: BATCH, length: LENGTH, pause: async () => {} };

let cacheDir: string;
let engine: Engine;

beforeAll(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), 'supervised-test-'));
  engine = await createEngine('onnx-cpu', { threads: 1 });
});

afterAll(() => rm(cacheDir, { recursive: true, force: true }));

/** Runs the same rows through a graph with the logits of all tokens, and through graphs with only as many as the rows need. */
async function compare(
  fixture: string,
  lora = {},
): Promise<{ sizes: (number | null)[]; differences: number[] }> {
  const { model, adapter } = await openFamily(fixture);
  const config = loraConfig({ ...adapter.lora, ...lora });
  const layout = adapterLayout(model, config);
  const values = new Map(
    layout.map(({ name, shape }, i) => [
      name,
      numbers(
        shape.reduce((a, b) => a * b, 1),
        i + 1,
      ),
    ]),
  );
  const weights = await prepareWeights(model, cacheDir);
  const size = { config: model.config, architecture: model.architecture, batch: BATCH, length: LENGTH };
  const sizes: (number | null)[] = [];
  const training = (supervised: number | null) =>
    engine.compile(
      trainingGraph({ ...size, supervised }, (graph) => adaptedParameters(graph, model, config)).graph,
      weights,
    );
  const losses = (supervised: number | null) =>
    engine.compile(
      lossGraph({ ...size, supervised }, (graph) => adaptedParameters(graph, model, config)),
      weights,
    );
  const sized = (compile: (supervised: number | null) => Promise<Executable>) =>
    new SizedExecutables({ tokens: BATCH * LENGTH, sized: true }, (supervised) => {
      sizes.push(supervised);
      return compile(supervised);
    });
  // Five rows do not fill two batches of three, so the second batch has fewer supervised tokens.
  const rows = completionRows(BATCH + 2, LENGTH, model.config.vocabularySize, 0.4);
  const step = async (runnable: Runnable) => {
    const into = layout.map(({ shape }) => new Float32Array(shape.reduce((a, b) => a * b, 1)));
    const { lossSum } = await lossAndGradients(runnable, rows, values, into, RUN);
    return [Float32Array.of(lossSum), ...into];
  };
  const score = async (runnable: Runnable) =>
    Float32Array.from((await rowLosses(runnable, rows, values, RUN)).map(({ lossSum }) => lossSum));

  const runnables = [await training(null), sized(training), await losses(null), sized(losses)] as const;
  const expected = [...(await step(runnables[0])), await score(runnables[2])];
  const found = [...(await step(runnables[1])), await score(runnables[3])];
  await Promise.all(runnables.map((runnable) => runnable.dispose()));
  return { sizes, differences: expected.map((values, i) => relativeDifference(found[i]!, values)) };
}

describe('logits for the supervised tokens only', () => {
  test.each(FAMILY_FIXTURES)('%s: have the same loss, gradients and losses per row', async (fixture) => {
    const { sizes, differences } = await compare(fixture);
    expect(sizes).toEqual([30, 24, 30, 24]);
    expect(Math.max(...differences)).toBeLessThan(TOLERANCE);
  });

  it('are right for an adapted output head', async () => {
    const { sizes, differences } = await compare('llama-tiny-untied', { targets: ['q_proj', 'lm_head'] });
    expect(sizes).toEqual([30, 24, 30, 24]);
    expect(Math.max(...differences)).toBeLessThan(TOLERANCE);
  });

  it('are right for an output head that is trained whole', async () => {
    const { differences } = await compare('llama-tiny-tied', { modulesToSave: ['lm_head'] });
    expect(Math.max(...differences)).toBeLessThan(TOLERANCE);
  });
});

describe('sizes', () => {
  it.each([
    [0, 512, 64],
    [64, 512, 64],
    [65, 512, 96],
    [154, 512, 160],
    [320, 512, 320],
    [321, 512, null],
    [512, 512, null],
    [3, 63, null],
  ])('%i supervised of %i tokens: %s', (supervised, tokens, size) => {
    expect(supervisedSize(supervised, tokens)).toBe(size);
  });

  it.each([
    ['onnx-cpu', 32, true],
    ['onnx-cpu', 8, true],
    ['onnx-cpu', 4, false],
    ['onnx-webgpu', 32, false],
    ['onnx-cuda', 32, false],
    ['onnx-webgpu', 8, false],
    ['tfjs', 32, true],
  ] as const)('%s with base bits %i: several graphs %s', async (name, bits, several) => {
    const { model } = await openFamily('llama-tiny-tied');
    const weights = await prepareWeights(model, cacheDir, { bits });
    const sized = isSized({ name }, weights);
    expect(sized).toBe(several);

    const asked: (number | null)[] = [];
    const executables = new SizedExecutables({ tokens: 2 * LENGTH, sized }, async (supervised) => {
      asked.push(supervised);
      return { run: async () => ({}), dispose: async () => {} };
    });
    for (const share of [0.2, 0.4, 1]) {
      await executables.for(completionRows(2, LENGTH, model.config.vocabularySize, share));
    }
    expect(asked.length > 1).toBe(several);
    expect(asked.at(-1)).toBeNull();
  });

  it('a graph that fails to compile does not affect the others, and is compiled again next time', async () => {
    const released: (number | null)[] = [];
    const failure = new Error('out of memory');
    let room = false;
    const executables = new SizedExecutables({ tokens: 2 * LENGTH, sized: true }, async (supervised) => {
      if (supervised === null && !room) throw failure;
      return { run: async () => ({}), dispose: async () => void released.push(supervised) };
    });
    const rows = (share: number) => completionRows(2, LENGTH, 300, share);
    const { supervised: few } = await executables.for(rows(0.2));
    await expect(executables.for(rows(1))).rejects.toBe(failure);
    const { supervised: more } = await executables.for(rows(0.4));
    expect(few).not.toBe(more);
    room = true;
    expect(await executables.for(rows(1))).toMatchObject({ supervised: null });
    await executables.dispose();
    expect(released).toEqual([few, more, null]);
    await executables.dispose();
    expect(released).toHaveLength(3);
  });

  it('a graph that fails to compile during the release does not keep the others', async () => {
    const released: (number | null)[] = [];
    const failing = Promise.withResolvers<never>();
    const executables = new SizedExecutables({ tokens: 2 * LENGTH, sized: true }, async (supervised) => {
      if (supervised === null) await failing.promise;
      return { run: async () => ({}), dispose: async () => void released.push(supervised) };
    });
    const rows = (share: number) => completionRows(2, LENGTH, 300, share);
    const { supervised: few } = await executables.for(rows(0.2));
    const compiling = executables.for(rows(1));
    const disposing = executables.dispose();
    const failure = new Error('out of memory');
    failing.reject(failure);
    await expect(compiling).rejects.toBe(failure);
    await disposing;
    expect(released).toEqual([few]);
  });

  it('pads with token 0 without a label', () => {
    const labels = BigInt64Array.from([-100, 5, -100, 0].map(BigInt));
    expect(supervisedFeeds(labels, 3)).toEqual({
      labels: BigInt64Array.of(5n, 0n, BigInt(IGNORED_LABEL)),
      supervised: BigInt64Array.of(1n, 3n, 0n),
    });
  });
});
