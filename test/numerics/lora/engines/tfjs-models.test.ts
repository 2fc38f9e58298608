import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loraConfig } from '../../../../lora/adapter/lora-config.ts';
import { createEngine, type Engine } from '../../../../lora/engines/engine.ts';
import { openBase } from '../../../../lora/models/base/base-model.ts';
import { FAMILY_FIXTURES } from '../../../utils/models/families.ts';
import { FIXTURES } from '../../../utils/models/reference.ts';
import {
  compareStep,
  fixtureRows,
  fixtureStep,
  fullStep,
  randomAdapter,
  type StepCase,
  VARIANTS,
} from '../../../utils/models/step-cases.ts';
import { tf, tfjsOnCpu } from '../../../utils/models/tfjs.ts';
import { tinyDeps, tinyRows, trainOnEach } from '../../../utils/models/tiny-trainer.ts';

/** Difference of two float32 engines that sum in different orders. */
const TOLERANCE = 1e-4;

let folder: string;
let engines: Engine[];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tfjs-models-test-'));
  engines = [await tfjsOnCpu(), await createEngine('onnx-cpu', { threads: 1 })];
});

afterAll(() => rm(folder, { recursive: true }));

const compare = (step: StepCase) => compareStep(engines, step, folder);

describe.each(FAMILY_FIXTURES)('%s: loss and gradients of a training step match onnx', (fixture) => {
  test('for an adapter', async () => {
    const step = await fixtureStep(fixture);
    const { difference, outputs } = await compare(step);
    expect(outputs).toBe(1 + Object.keys(step.values).length);
    expect(difference).toBeLessThan(TOLERANCE);
  });

  test('for all parameters', async () => {
    expect((await compare(await fullStep(fixture))).difference).toBeLessThan(TOLERANCE);
  });
});

describe('a training step with options matches onnx', () => {
  const fixture = 'families/qwen2';

  test.each(VARIANTS)('%s', async (_, settings, options) => {
    const model = await openBase(join(FIXTURES, fixture));
    const rows = await fixtureRows(fixture);
    const adapter = randomAdapter(model, loraConfig({ rank: 3, alpha: 6, ...settings }));
    expect((await compare({ model, rows, ...adapter, options })).difference).toBeLessThan(TOLERANCE);
  });

  test('logits for supervised tokens only', async () => {
    const model = await openBase(join(FIXTURES, fixture));
    const rows = await fixtureRows(fixture);
    const adapter = randomAdapter(model, loraConfig({ rank: 3 }));
    const supervised = rows.reduce((sum, { labels }) => sum + labels.filter((label) => label >= 0).length, 3);
    expect((await compare({ model, rows, ...adapter, supervised })).difference).toBeLessThan(TOLERANCE);
  });
});

describe('a trainer', () => {
  test('has the adapter of a trainer on onnx after 5 steps, and holds the same memory after each of 50', async () => {
    const deps = await tinyDeps(folder);
    const rows = await tinyRows(deps, 100);
    const { trainers, difference } = await trainOnEach(engines, {
      deps,
      rows: rows.slice(0, 10),
      training: { batchSize: 2, seed: 3 },
    });
    expect(difference).toBeLessThan(TOLERANCE);
    const [ours, theirs] = trainers;

    const held: string[] = [];
    const memory = () => {
      const { numTensors, numBytes, numDataBuffers } = tf.memory();
      return `${numTensors} tensors, ${numDataBuffers} buffers, ${numBytes} bytes`;
    };
    const result = await ours!.train({ rows, steps: 50, onProgress: () => held.push(memory()) });
    expect(result.steps).toBe(50);
    expect(held).toHaveLength(50);
    expect(new Set(held).size).toBe(1);
    await ours!.evaluate(rows.slice(0, 2));
    await Promise.all([ours!.dispose(), theirs!.dispose()]);
    expect(tf.memory().numTensors).toBe(0);
  });
});
