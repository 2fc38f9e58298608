import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loraConfig } from '../../../../lora/adapter/lora-config.ts';
import { createEngine, type Engine } from '../../../../lora/engines/engine.ts';
import { Graph } from '../../../../lora/graph/graph.ts';
import { randomSeed, uniform } from '../../../../lora/graph/ops.ts';
import { openBase } from '../../../../lora/models/base/base-model.ts';
import { disagreement, runOnEach } from '../../../utils/models/executors.ts';
import { FAMILY_FIXTURES } from '../../../utils/models/families.ts';
import { slopesOf } from '../../../utils/models/graphs.ts';
import { OPERATION_CASES } from '../../../utils/models/operation-cases.ts';
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
import { tinyDeps, tinyRows, trainOnEach } from '../../../utils/models/tiny-trainer.ts';
import { gpu, INTEGERS, missing, placement, TOLERANCE } from '../../../utils/models/webgpu.ts';

test('is unavailable without a device', () => {
  if (missing === null) expect((gpu as Engine).name).toBe('onnx-webgpu');
  else expect(missing).toMatchObject({ code: 'ENGINE_UNAVAILABLE' });
});

describe.skipIf(missing !== null)('onnx-webgpu', () => {
  let folder: string;
  let engines: Engine[];

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'webgpu-test-'));
    engines = [gpu as Engine, await createEngine('onnx-cpu', { threads: 1 })];
  });

  afterAll(() => rm(folder, { recursive: true }));

  const compare = (step: StepCase) => compareStep(engines, step, folder);

  describe('values and gradients match the processor', () => {
    test.each(Object.entries(OPERATION_CASES))('%s', (_, cases) =>
      fc.assert(
        fc.asyncProperty(cases, fc.integer({ min: 1, max: 2 ** 31 - 1 }), async (example, seed) => {
          const { graph, feeds } = slopesOf(example, seed);
          const [found, expected] = await runOnEach(engines, graph, feeds);
          expect(disagreement(found!, expected!)).toBeLessThan(TOLERANCE);
        }),
        { numRuns: 5 },
      ),
    );

    test('random numbers, bit for bit', async () => {
      const graph = new Graph();
      graph.output('u', uniform([3, 5, 7], randomSeed(graph), 7));
      const [found, expected] = await runOnEach(engines, graph, { seed: BigInt64Array.of(2n ** 31n - 1n) });
      expect(found).toEqual(expected);
    });
  });

  describe.each(FAMILY_FIXTURES)('%s: loss and gradients of a training step', (fixture) => {
    test('match the processor for an adapter', async () => {
      const step = await fixtureStep(fixture);
      const { difference, outputs } = await compare(step);
      expect(outputs).toBe(1 + Object.keys(step.values).length);
      expect(difference).toBeLessThan(TOLERANCE);
    });

    test('match the processor for all parameters', async () => {
      expect((await compare(await fullStep(fixture))).difference).toBeLessThan(TOLERANCE);
    });

    test('run on the device, and only results are fetched', async () => {
      const step = await fixtureStep(fixture);
      const { nodes, onProcessor, fetched } = await placement(step, folder);
      expect(nodes).toBeGreaterThan(100);
      expect(onProcessor.filter((type) => !INTEGERS.has(type))).toEqual([]);
      expect(fetched).toBe(0);
    });
  });

  describe('a training step with options matches the processor', () => {
    const fixture = 'families/qwen2';

    test.each(VARIANTS)('%s', async (_, settings, options) => {
      const model = await openBase(join(FIXTURES, fixture));
      const rows = await fixtureRows(fixture);
      const adapter = randomAdapter(model, loraConfig({ rank: 3, alpha: 6, ...settings }));
      expect((await compare({ model, rows, ...adapter, options })).difference).toBeLessThan(TOLERANCE);
    });
  });

  test('a trainer has the adapter of one on the processor after 5 steps', async () => {
    const deps = await tinyDeps(folder);
    const rows = await tinyRows(deps, 10);
    const { trainers, difference } = await trainOnEach(engines, { deps, rows, training: { batchSize: 2 } });
    expect(difference).toBeLessThan(TOLERANCE);
    await Promise.all(trainers.map((trainer) => trainer.dispose()));
  });
});
