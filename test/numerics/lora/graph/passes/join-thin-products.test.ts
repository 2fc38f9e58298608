import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, test } from 'vitest';
import { loraConfig } from '../../../../../lora/adapter/lora-config.ts';
import type { Engine } from '../../../../../lora/engines/engine.ts';
import { gradients } from '../../../../../lora/graph/gradients.ts';
import { Graph, type Tensor } from '../../../../../lora/graph/graph.ts';
import { addmm, linear, multiply, reduceSum } from '../../../../../lora/graph/ops.ts';
import { foldBranches } from '../../../../../lora/graph/passes/fold-branches.ts';
import { joinThinProducts } from '../../../../../lora/graph/passes/join-thin-products.ts';
import { liveNodes } from '../../../../../lora/graph/passes/live-nodes.ts';
import { prepareWeights } from '../../../../../lora/models/weights/prepare-weights.ts';
import { disagreement, runOnEach } from '../../../../utils/models/executors.ts';
import { FAMILY_FIXTURES } from '../../../../utils/models/families.ts';
import {
  fixtureStep,
  randomAdapter,
  type StepCase,
  stepOf,
  VARIANTS,
} from '../../../../utils/models/step-cases.ts';
import { tfjsOnCpu } from '../../../../utils/models/tfjs.ts';

let cacheDir: string;
let engine: Engine;

beforeAll(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), 'join-test-'));
  // The engine tfjs does not rewrite graphs itself, so it also computes the graph whose products are not joined.
  engine = await tfjsOnCpu();
});

afterAll(() => rm(cacheDir, { recursive: true, force: true }));

/** Returns the number of products that the outputs depend on. */
function products(graph: Graph): number {
  return liveNodes(graph).filter(({ operation }) => operation === 'gemm').length;
}

/**
 * Returns the difference between the outputs of a graph with thin products joined and not joined. `before` rewrites the
 * graph of the step first.
 */
async function differenceOf(step: StepCase, before = (graph: Graph) => graph): Promise<number> {
  const { graph, feeds } = stepOf(step);
  const weights = await prepareWeights(step.model, cacheDir);
  const apart = before(graph);
  const [expected] = await runOnEach([engine], apart, feeds, weights);
  const [found] = await runOnEach([engine], joinThinProducts(apart), feeds, weights);
  return disagreement(found!, expected!);
}

describe('thin products that share an operand', () => {
  test.each(FAMILY_FIXTURES)('%s: keep loss and gradients when they are joined', async (fixture) => {
    const { model, rows } = await fixtureStep(fixture);
    const step = { model, rows, ...randomAdapter(model, loraConfig({ rank: 2 })) };
    expect(await differenceOf(step)).toBeLessThan(1e-4);
    expect(await differenceOf(step, foldBranches)).toBeLessThan(1e-4);
    // GPT-2 has one projection where other families have two or three, so nothing is joined.
    const { graph } = stepOf(step);
    const fewer = products(graph) - products(joinThinProducts(graph));
    if (model.config.family === 'gpt2') expect(fewer).toBe(0);
    else expect(fewer).toBeGreaterThan(0);
  });

  test.each(VARIANTS)('%s: keep loss and gradients in every variant', async (_, lora, options) => {
    const { model, rows } = await fixtureStep('llama-tiny-untied');
    const adapter = randomAdapter(model, loraConfig({ rank: 4, ...lora }));
    expect(await differenceOf({ model, rows, ...adapter, options })).toBeLessThan(1e-4);
  });

  const WIDTH = 64;

  function branches(ranks: readonly number[]): Graph {
    const graph = new Graph();
    const x = graph.input('x', [32, WIDTH]);
    const wrt: Tensor[] = [x];
    let loss: Tensor | null = null;
    for (const [i, rank] of ranks.entries()) {
      const [a, b] = [graph.input(`a${i}`, [rank, WIDTH]), graph.input(`b${i}`, [WIDTH, rank])];
      const y = linear(linear(x, a), b, { addTo: linear(x, graph.weight(`w${i}`, [WIDTH, WIDTH])) });
      loss = reduceSum(multiply(y, loss === null ? y : multiply(y, loss)));
      wrt.push(a, b);
    }
    graph.output('loss', loss!);
    for (const [i, gradient] of gradients(loss!, wrt).entries()) graph.output(`d${i}`, gradient);
    return graph;
  }

  it('are joined into one product of each kind, at any ranks', () => {
    // The pass joins the three products x·Aᵀ into one, and the three products du·A into one.
    const graph = branches([4, 8, 4]);
    expect(products(joinThinProducts(graph))).toBe(products(graph) - 2 * 2);
  });

  it('stay separate if they are as wide as their operand', () => {
    const graph = branches([WIDTH, WIDTH]);
    expect(products(joinThinProducts(graph))).toBe(products(graph));
  });

  it('stay in a chain of additions with another reader', () => {
    const graph = new Graph();
    const [u, a, b] = [graph.input('u', [32, 4]), graph.input('a', [4, WIDTH]), graph.input('b', [4, WIDTH])];
    const base = graph.input('base', [32, WIDTH]);
    const first = addmm(base, u, a);
    graph.output('first', first);
    graph.output('second', addmm(first, u, b));
    expect(products(joinThinProducts(graph))).toBe(2);
  });
});
