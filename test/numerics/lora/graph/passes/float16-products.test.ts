import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { createEngine } from '../../../../../lora/engines/engine.ts';
import type { GraphNode } from '../../../../../lora/graph/graph.ts';
import { markFloat16Products } from '../../../../../lora/graph/passes/float16-products.ts';
import { prepareWeights } from '../../../../../lora/models/weights/prepare-weights.ts';
import { runOnEach } from '../../../../utils/models/executors.ts';
import { FAMILY_FIXTURES, relativeDifference } from '../../../../utils/models/families.ts';
import { fixtureStep, stepOf } from '../../../../utils/models/step-cases.ts';

/** Maximum error relative to the largest value, after all layers have rounded to the 11 bits of float16. */
const ROUNDING = 1e-2;

const isMarked = ({ operation, attributes }: GraphNode) =>
  operation === 'gemm' && (attributes as GraphNode<'gemm'>['attributes']).float16 === true;

test.each(FAMILY_FIXTURES)(
  '%s: marks the products of the blocks with frozen weights, forward and backward',
  async (name) => {
    const { graph } = stepOf(await fixtureStep(name));
    const weights = new Map([...graph.weights].map(([name, tensor]) => [tensor, name]));
    const others = new Set([...graph.weights.keys()].filter((name) => !/\.(layers|h)\.\d+\./.test(name)));
    const half = markFloat16Products(graph, others);
    const halfWeights = new Map([...half.weights].map(([name, tensor]) => [tensor, name]));

    const isOfBlock = ({ operation, inputs }: GraphNode) =>
      operation === 'gemm' && /\.(layers|h)\.\d+\./.test(weights.get(inputs[1]!) ?? '');
    const expected = graph.nodes.filter(isOfBlock).map(({ inputs }) => weights.get(inputs[1]!));
    const marked = half.nodes.filter(isMarked).map(({ inputs }) => halfWeights.get(inputs[1]!));
    expect(marked).toEqual(expected);
    // Each weight has at most two products: one in the forward pass, and one in the backward pass if a trained tensor
    // lies below it.
    for (const weight of new Set(marked))
      expect(marked.filter((other) => other === weight).length).toBeLessThan(3);
    expect(marked.length).toBeGreaterThan(new Set(marked).size);
  },
);

test.each(FAMILY_FIXTURES)('%s: loss and gradients match float32 within rounding', async (name) => {
  const step = await fixtureStep(name);
  const { graph, feeds } = stepOf(step);
  const cacheDir = await mkdtemp(join(tmpdir(), 'float16-products-test-'));
  onTestFinished(() => rm(cacheDir, { recursive: true }));
  const weights = await prepareWeights(step.model, cacheDir);
  const engine = await createEngine('onnx-cpu', { threads: 1 });
  const [expected] = await runOnEach([engine], graph, feeds, weights);
  const [found] = await runOnEach([engine], markFloat16Products(graph, new Set()), feeds, weights);
  expect(Object.keys(found!)).toEqual(Object.keys(expected!));
  for (const [output, values] of Object.entries(expected!))
    expect(relativeDifference(found![output]!, values), output).toBeLessThan(ROUNDING);
});

test('leaves the rest of the graph unchanged', async () => {
  const { graph } = stepOf(await fixtureStep('families/qwen2'));
  const half = markFloat16Products(graph, new Set());
  const unmarked = half.nodes.map(({ operation, attributes }) => {
    const { float16: _, ...others } = attributes as { float16?: boolean };
    return [operation, others];
  });
  const needed = graph.nodes.map(({ operation, attributes }) => [operation, attributes]);
  expect(unmarked.length).toBeLessThanOrEqual(needed.length);
  expect(needed).toEqual(expect.arrayContaining(unmarked));
  expect([...half.outputs.keys()]).toEqual([...graph.outputs.keys()]);
  expect([...half.inputs.keys()]).toEqual([...graph.inputs.keys()]);
});

test('leaves the products with excepted weights in float32', async () => {
  const { graph } = stepOf(await fixtureStep('families/qwen2'));
  expect(markFloat16Products(graph, new Set(graph.weights.keys())).nodes.some(isMarked)).toBe(false);
});
