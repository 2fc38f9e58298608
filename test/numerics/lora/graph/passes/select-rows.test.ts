import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, test } from 'vitest';
import { loraConfig } from '../../../../../lora/adapter/lora-config.ts';
import { createEngine, type Engine, type WeightFile } from '../../../../../lora/engines/engine.ts';
import { ancestorNodes, gradients } from '../../../../../lora/graph/gradients.ts';
import { Graph, type GraphNode, type Tensor } from '../../../../../lora/graph/graph.ts';
import * as ops from '../../../../../lora/graph/ops.ts';
import { selectRows } from '../../../../../lora/graph/passes/select-rows.ts';
import { prepareWeights } from '../../../../../lora/models/weights/prepare-weights.ts';
import { countSupervised } from '../../../../../lora/train/supervised.ts';
import { disagreement, runOnEach } from '../../../../utils/models/executors.ts';
import { FAMILY_FIXTURES } from '../../../../utils/models/families.ts';
import { evaluate, numbers } from '../../../../utils/models/graphs.ts';
import {
  fixtureStep,
  randomAdapter,
  type StepCase,
  stepOf,
  VARIANTS,
} from '../../../../utils/models/step-cases.ts';

/** Error of float32 sums in another order. */
const TOLERANCE = 1e-4;

let cacheDir: string;
let engine: Engine;

beforeAll(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), 'select-rows-test-'));
  engine = await createEngine('onnx-cpu', { threads: 1, roundActivations: false });
});

afterAll(() => rm(cacheDir, { recursive: true, force: true }));

/** Returns the difference between a step that computes only the rows of its labels and a step that computes all rows. */
async function difference(step: StepCase, weights?: WeightFile): Promise<number> {
  // The graph has room for two rows more than needed. They are padding.
  const supervised = countSupervised(step.rows) + 2;
  const file = weights ?? (await prepareWeights(step.model, cacheDir));
  const run = async (step: StepCase) => {
    const { graph, feeds } = stepOf(step);
    return (await runOnEach([engine], graph, feeds, file))[0]!;
  };
  const [found, expected] = [await run({ ...step, supervised }), await run(step)];
  expect(expected.loss![0]).toBeGreaterThan(1);
  return disagreement(found, expected);
}

/** Keeps the second half of the labels. */
function halfLabelled(step: StepCase): StepCase {
  const rows = step.rows.map((row) => ({
    ...row,
    labels: row.labels.map((label, t) => (t < row.labels.length / 2 ? -100 : label)),
  }));
  return { ...step, rows };
}

describe('a step for some rows of the logits', () => {
  test.each(FAMILY_FIXTURES)('%s: has the loss and gradients of a step for all rows', async (fixture) => {
    const step = halfLabelled(await fixtureStep(fixture));
    expect(await difference(step)).toBeLessThan(TOLERANCE);
    expect(await difference({ ...step, options: { checkpointing: true } })).toBeLessThan(TOLERANCE);
  });

  test.each(VARIANTS)('%s: has the same loss, gradients and random numbers', async (_, lora, options) => {
    for (const fixture of ['llama-tiny-untied', 'families/gemma3', 'families/gpt2']) {
      const { model, rows } = await fixtureStep(fixture);
      const adapter = randomAdapter(model, loraConfig({ rank: 4, ...lora }));
      expect(await difference(halfLabelled({ model, rows, ...adapter, options }))).toBeLessThan(TOLERANCE);
    }
  });

  it('holds for an adapted head with dropout', async () => {
    const { model, rows } = await fixtureStep('llama-tiny-untied');
    const adapter = randomAdapter(
      model,
      loraConfig({ rank: 4, targets: ['q_proj', 'lm_head'], dropout: 0.3 }),
    );
    expect(await difference(halfLabelled({ model, rows, ...adapter }))).toBeLessThan(TOLERANCE);
  });

  it.each([4, 8] as const)('holds for base bits %i', async (bits) => {
    const step = halfLabelled(await fixtureStep('llama-tiny-untied'));
    const weights = await prepareWeights(step.model, cacheDir, { bits });
    expect(await difference(step, weights)).toBeLessThan(TOLERANCE);
  });

  test.each(FAMILY_FIXTURES)('%s: computes only these rows after the last attention', async (fixture) => {
    const step = halfLabelled(await fixtureStep(fixture));
    const supervised = countSupervised(step.rows);
    const { graph } = stepOf({ ...step, supervised });
    const nodes = ancestorNodes(graph.nodes, graph.outputs.get('loss')!);
    // The softmax of the logits, which the gradient of the loss needs, has two axes. A softmax of attention has more.
    const isAttention = ({ operation, inputs: [x] }: GraphNode) =>
      operation === 'softmax' && x!.shape.length > 2;
    const last = nodes.findLastIndex(isAttention);
    const products = nodes.slice(last).filter(({ operation }) => operation === 'gemm');
    // The products after the softmax are the projection of attention's output and the products of the MLP and the head.
    // The products of attention that need all rows come before the softmax.
    expect(products.length).toBeGreaterThanOrEqual(4);
    expect(new Set(products.map(({ outputs }) => outputs[0]!.shape[0]))).toEqual(new Set([supervised]));
  });
});

describe('rows of a matrix', () => {
  const [N, C] = [6, 4];
  const CHOSEN = [4n, 0n, 4n];

  /** Returns how far selectRows and gatherRows differ, in the chosen rows of `build` and in their gradients. */
  async function bothWays(build: (x: Tensor, w: Tensor, graph: Graph) => Tensor) {
    const run = (rowsOf: (y: Tensor, ids: Tensor) => Tensor) =>
      evaluate(
        (graph) => {
          const [x, w] = [graph.input('x', [N, C]), graph.input('w', [C, C])];
          const rows = rowsOf(build(x, w, graph), graph.input('ids', [CHOSEN.length], 'int64'));
          const [dx, dw] = gradients(ops.reduceSum(ops.multiply(rows, rows)), [x, w]);
          return { rows, dx: dx!, dw: dw! };
        },
        { x: numbers(N * C, 1), w: numbers(C * C, 2), ids: BigInt64Array.from(CHOSEN) },
      );
    return disagreement(await run(selectRows), await run(ops.gatherRows));
  }

  const ones = (graph: Graph, shape: number[]) =>
    graph.constant(shape, new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(1.5));

  const cases: Record<string, (x: Tensor, w: Tensor, graph: Graph) => Tensor> = {
    'an operand that is the same for all rows': (x, w, graph) =>
      ops.divide(ops.add(ops.linear(x, w), ones(graph, [C])), ones(graph, [1, C])),
    'a factor for each row': (x, w) => ops.multiply(ops.linear(x, w), ops.slice(x, 1, 0, 1)),
    'activations and norms': (x, w, graph) => {
      const y = ops.rmsNorm(ops.silu(ops.linear(x, w)), ones(graph, [C]), 1e-5);
      const z = ops.layerNorm(ops.geluTanh(y), ones(graph, [C]), ones(graph, [C]), 1e-5);
      return ops.subtract(ops.sigmoid(z), ops.negate(x));
    },
    'products with a factor, onto something': (x, w) =>
      ops.addmm(ops.sigmoid(x), x, w, { transposeB: true, scale: 0.5, beta: 2 }),
    'a product that mixes rows': (x, w) =>
      ops.add(x, ops.matmul(x, ops.matmul(x, ops.matmul(x, w), { transposeA: true }))),
    'a transposed left operand': (x, w) =>
      ops.silu(ops.matmul(ops.transpose(x), ops.transpose(w), { transposeA: true })),
    'a result that is another operation’s hidden one': (x, w) => ops.linear(ops.silu(x).node!.outputs[0]!, w),
    'a matrix that nothing made': (x, w) => ops.add(x, ops.scale(ops.linear(x, w), 0)),
  };

  it.each(Object.entries(cases))('%s', async (_, build) => {
    expect(await bothWays(build)).toBeLessThan(1e-5);
  });

  it('computes for all rows only what all rows need, and computes nothing twice', () => {
    const graph = new Graph();
    const ids = graph.input('ids', [2], 'int64');
    const w = graph.input('w', [C, C]);
    const shared = ops.silu(ops.linear(graph.input('x', [N, C]), w));
    // The sum over rows needs `shared` in all rows, but not the values after it.
    const mixed = ops.multiply(ops.sigmoid(shared), ops.reduceSum(shared, 0));
    graph.output('y', selectRows(ops.linear(ops.add(mixed, shared), w), ids));
    const rowsOf = (operation: GraphNode['operation']) =>
      ancestorNodes(graph.nodes, graph.outputs.get('y')!)
        .filter((node) => node.operation === operation)
        .map(({ outputs }) => outputs[0]!.shape[0]);
    expect(rowsOf('silu')).toEqual([N]);
    expect(rowsOf('gemm')).toEqual([N, 2]);
    expect(rowsOf('gatherRows')).toEqual([2]);
    for (const operation of ['sigmoid', 'multiply', 'add'] as const) expect(rowsOf(operation)).toEqual([2]);
  });
});
