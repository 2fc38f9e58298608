/** Tests a base on a GPU in float16, and in 8 and 4 bits. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { initialMatrices } from '../../../../lora/adapter/initial.ts';
import { loraConfig } from '../../../../lora/adapter/lora-config.ts';
import { createEngine, type Engine } from '../../../../lora/engines/engine.ts';
import { hasFloat16 } from '../../../../lora/engines/float16.ts';
import { Graph, type GraphNode } from '../../../../lora/graph/graph.ts';
import { addmm, transpose } from '../../../../lora/graph/ops.ts';
import { liveNodes } from '../../../../lora/graph/passes/live-nodes.ts';
import { openBase } from '../../../../lora/models/base/base-model.ts';
import { prepareWeights } from '../../../../lora/models/weights/prepare-weights.ts';
import { measureSpeed } from '../../../../lora/train/devices/speed.ts';
import { inPrecision } from '../../../../lora/train/precision.ts';
import { Trainer } from '../../../../lora/train/trainer.ts';
import { runOnEach } from '../../../utils/models/executors.ts';
import { FAMILY_FIXTURES } from '../../../utils/models/families.ts';
import { numbers } from '../../../utils/models/graphs.ts';
import { FIXTURES, maxDifference } from '../../../utils/models/reference.ts';
import {
  compareStep,
  fixtureRows,
  fixtureStep,
  randomAdapter,
  type StepCase,
  stepOf,
} from '../../../utils/models/step-cases.ts';
import { tinyDeps, tinyRows, tinySettings } from '../../../utils/models/tiny-trainer.ts';
import { gpu, INTEGERS, missing, placement, TOLERANCE } from '../../../utils/models/webgpu.ts';

/**
 * Limits for gradients with float16 products: the least cosine of all gradients, and the largest relative error of a tensor.
 * The worst family had 0.99998 and 1.6 %, with sums of 32 to 64 terms. Rounding depends on the order in which a device adds.
 */
const FLOAT16_COSINE = 0.999;
const FLOAT16_TENSOR = 0.05;

const isFloat16 = ({ operation, attributes }: GraphNode) =>
  operation === 'gemm' && (attributes as GraphNode<'gemm'>['attributes']).float16 === true;

/** ‖a − b‖ / ‖b‖ */
function relativeError(found: Float32Array, expected: Float32Array): number {
  const norm = (values: Float32Array) => Math.hypot(...values);
  return norm(found.map((value, i) => value - expected[i]!)) / norm(expected);
}

/** Returns the cosine of all gradients as one vector, and the largest relative error of a tensor that is not zero. */
function compareGradients(
  { loss: _, ...found }: Readonly<Record<string, Float32Array>>,
  { loss: __, ...expected }: Readonly<Record<string, Float32Array>>,
) {
  let [dot, a, b, worst] = [0, 0, 0, 0];
  for (const [name, values] of Object.entries(expected)) {
    for (const [i, value] of values.entries()) {
      dot += value * found[name]![i]!;
      a += found[name]![i]! ** 2;
      b += value ** 2;
    }
    if (values.some((value) => value !== 0)) worst = Math.max(worst, relativeError(found[name]!, values));
  }
  return { cosine: dot / Math.sqrt(a * b), worst };
}

/** Returns a step of an adapter with DoRA. Such a step reads weights outside products too. */
async function doraStep(fixture: string): Promise<StepCase> {
  const model = await openBase(join(FIXTURES, fixture));
  const adapter = randomAdapter(model, loraConfig({ rank: 3, alpha: 6, useDora: true }));
  return { model, rows: await fixtureRows(fixture), ...adapter };
}

describe.skipIf(missing !== null)('onnx-webgpu', () => {
  let folder: string;
  let exact: Engine;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'webgpu-base-test-'));
    // The engine of the processor must not round activations, because a GPU does not round them either.
    exact = await createEngine('onnx-cpu', { threads: 1, roundActivations: false });
  });

  afterAll(() => rm(folder, { recursive: true }));

  describe('products in float16', () => {
    const half = (step: StepCase) => (graph: Graph) => inPrecision(graph, step.model.architecture, 'float16');

    test.each(FAMILY_FIXTURES)('%s: have the gradients of a training step in float32', async (fixture) => {
      const step = await fixtureStep(fixture);
      const { graph, feeds } = stepOf(step);
      const weights = await prepareWeights(step.model, folder);
      const [device, processor] = [gpu as Engine, exact];
      const [found] = await runOnEach([device], half(step)(graph), feeds, weights);
      const [expected] = await runOnEach([processor], graph, feeds, weights);
      const { cosine, worst } = compareGradients(found!, expected!);
      expect(Object.keys(found!).sort()).toEqual(Object.keys(expected!).sort());
      expect(cosine).toBeGreaterThan(FLOAT16_COSINE);
      expect(worst).toBeLessThan(FLOAT16_TENSOR);
      // If the error were smaller, the products would not have been computed in float16.
      expect(worst).toBeGreaterThan(1e-4);
    });

    test('run on the device, with weights cast before the first run', async () => {
      const step = await fixtureStep('families/qwen2');
      const plain = await placement(step, folder);
      const { onProcessor, fetched, types } = await placement(step, folder, { change: half(step) });
      expect(onProcessor.filter((type) => !INTEGERS.has(type))).toEqual([]);
      expect(fetched).toBe(0);
      const products = half(step)(stepOf(step).graph).nodes.filter(isFloat16);
      const casts = (of: readonly string[]) => of.filter((type) => type === 'Cast').length;
      // Float16 products need one cast for each result, and at most one for each left operand.
      expect(casts(types) - casts(plain.types)).toBeLessThanOrEqual(2 * products.length);
    });

    test('accumulate long sums in float32', async () => {
      const graph = new Graph();
      const [x, w] = [graph.input('x', [32, 8192]), graph.input('w', [32, 8192])];
      const product = (float16: boolean, transposed: boolean) =>
        addmm(null, x, transposed ? w : transpose(w), { transposeB: transposed, float16 });
      for (const transposed of [true, false]) {
        graph.output(`half${transposed}`, product(true, transposed));
        graph.output(`full${transposed}`, product(false, transposed));
      }
      const feeds = { x: numbers(32 * 8192, 1), w: numbers(32 * 8192, 2) };
      const [found] = await runOnEach([gpu as Engine], graph, feeds);
      for (const transposed of [true, false]) {
        const difference = relativeError(found![`half${transposed}`]!, found![`full${transposed}`]!);
        // If all terms were added in float16, the difference would be 0.0067 or more.
        expect(difference).toBeLessThan(0.006);
        expect(difference).toBeGreaterThan(1e-4);
      }
    });

    test('let a trainer find a loss scale and learn the same as on the processor', async () => {
      const deps = await tinyDeps(folder);
      const rows = await tinyRows(deps, 10);
      const settings = tinySettings({ batchSize: 2 });
      const [device, processor] = [gpu as Engine, exact];
      const trainers = [
        new Trainer(tinySettings({ batchSize: 2 }, { precision: 'float16' }), { ...deps, engine: device }),
        new Trainer(settings, { ...deps, engine: processor }),
      ] as const;
      const [half] = trainers;
      half.setOptimizerState({ ...half.optimizerState(), lossScale: { scale: 2 ** 24, runs: 0 } });
      const start = initialMatrices(half.layout, 7);
      const results = [];
      for (const trainer of trainers) {
        trainer.setParameters(start);
        results.push(await trainer.train({ rows, steps: 5 }));
      }
      expect(half.optimizerState().lossScale!.scale).toBeLessThan(2 ** 24);
      expect(results[0]!.steps).toBe(5);
      expect(results[0]!.lossLast / results[1]!.lossLast).toBeCloseTo(1, 2);
      await Promise.all(trainers.map((trainer) => trainer.dispose()));
    });

    test('are measured', async () => {
      expect(await hasFloat16(gpu as Engine)).toBe(true);
      const { signal } = new AbortController();
      const speed = await measureSpeed(gpu as Engine, { tokens: 16, width: 16, float16: true, signal });
      expect(speed.float16Flops).toBeGreaterThan(0);
    });
  });

  describe.each([4, 8] as const)('base bits %i', (bits) => {
    const steps = [
      ...FAMILY_FIXTURES.map((fixture) => [fixture, () => fixtureStep(fixture)] as const),
      ['with DoRA', () => doraStep('families/qwen2')] as const,
    ];

    test.each(steps)('%s: has the loss and gradients of a training step', async (_, make) => {
      const step = await make();
      const pair = [gpu as Engine, exact];
      expect((await compareStep(pair, step, folder, { bits })).difference).toBeLessThan(TOLERANCE);
    });

    test.each(steps)('%s: is dequantised on the device, right before each product', async (_, make) => {
      const step = await make();
      const { onProcessor, fetched, types } = await placement(step, folder, { bits });
      // Apart from integers, only the lookups of rows of the embedding and the head run on the processor.
      const lookups = onProcessor.filter((type) => !INTEGERS.has(type));
      expect(lookups.filter((type) => type !== 'Gather')).toEqual([]);
      expect(lookups.length).toBeLessThanOrEqual(4);
      expect(fetched).toBe(0);
      const { graph } = stepOf(step);
      const { quantised, tables } = await prepareWeights(step.model, folder, { bits });
      const used = (names: ReadonlyMap<string, unknown>) => {
        const tensors = [...graph.weights].flatMap(([name, tensor]) => (names.has(name) ? [tensor] : []));
        return liveNodes(graph).filter(({ inputs }) => inputs.some((input) => tensors.includes(input)))
          .length;
      };
      const made = (operator: string) => types.filter((type) => type === operator).length;
      const [ofBlocks, ofTables] = [used(quantised!), used(tables!)];
      expect(made('GatherBlockQuantized')).toBe(bits === 4 ? ofBlocks : 0);
      // If two nodes of the graph read the same rows or the same chunk of the head, onnxruntime dequantises these
      // values twice.
      const extra = made('DequantizeLinear') - (bits === 4 ? ofTables : ofTables + ofBlocks);
      expect(extra).toBeGreaterThanOrEqual(0);
      expect(extra).toBeLessThanOrEqual(2);
    });

    test('lets a trainer learn and evaluate the same as on the processor', async () => {
      const deps = await tinyDeps(folder);
      const rows = await tinyRows(deps, 10);
      const weights = await prepareWeights(deps.model, folder, { bits });
      const trainers = [gpu as Engine, exact].map(
        (engine) => new Trainer(tinySettings({ batchSize: 2 }), { ...deps, weights, engine }),
      );
      const losses = [];
      for (const trainer of trainers) {
        trainer.setParameters(initialMatrices(trainer.layout, 7));
        await trainer.train({ rows, steps: 5 });
        losses.push((await trainer.evaluate(rows)).map(({ lossSum }) => lossSum));
      }
      const [found, expected] = trainers.map((trainer) => trainer.parameters());
      for (const [i, values] of found!.entries()) {
        expect(maxDifference(values, expected![i]!)).toBeLessThan(TOLERANCE);
      }
      for (const [i, loss] of losses[0]!.entries()) expect(loss / losses[1]![i]!).toBeCloseTo(1, 3);
      await Promise.all(trainers.map((trainer) => trainer.dispose()));
    });

    test('has close gradients with products in float16', async () => {
      const step = await fixtureStep('families/qwen2');
      const { graph, feeds } = stepOf(step);
      const weights = await prepareWeights(step.model, folder, { bits });
      const half = inPrecision(graph, step.model.architecture, 'float16');
      const [found] = await runOnEach([gpu as Engine], half, feeds, weights);
      const [expected] = await runOnEach([exact], graph, feeds, weights);
      const { cosine, worst } = compareGradients(found!, expected!);
      expect(cosine).toBeGreaterThan(FLOAT16_COSINE);
      expect(worst).toBeLessThan(FLOAT16_TENSOR);
      expect(worst).toBeGreaterThan(1e-4);
    });
  });
});
