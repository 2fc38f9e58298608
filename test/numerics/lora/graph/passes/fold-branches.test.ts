import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, test } from 'vitest';
import { loraConfig } from '../../../../../lora/adapter/lora-config.ts';
import type { Engine } from '../../../../../lora/engines/engine.ts';
import { gradients } from '../../../../../lora/graph/gradients.ts';
import { Graph } from '../../../../../lora/graph/graph.ts';
import { addmm, linear, multiply, reduceSum } from '../../../../../lora/graph/ops.ts';
import { foldBranches } from '../../../../../lora/graph/passes/fold-branches.ts';
import { liveNodes } from '../../../../../lora/graph/passes/live-nodes.ts';
import { recomputeActivations } from '../../../../../lora/graph/passes/recompute.ts';
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
  cacheDir = await mkdtemp(join(tmpdir(), 'merge-test-'));
  // The engine tfjs does not rewrite graphs itself, so it also computes the graph that is not folded.
  engine = await tfjsOnCpu();
});

afterAll(() => rm(cacheDir, { recursive: true, force: true }));

/** Returns the number of products that the outputs depend on. */
function products(graph: Graph): number {
  return liveNodes(graph).filter(({ operation }) => operation === 'gemm').length;
}

async function bothWays(step: StepCase) {
  const { graph, feeds } = stepOf(step);
  const merged = foldBranches(graph);
  const weights = await prepareWeights(step.model, cacheDir);
  const [expected] = await runOnEach([engine], graph, feeds, weights);
  const [found] = await runOnEach([engine], merged, feeds, weights);
  return { difference: disagreement(found!, expected!), changed: merged.nodes.length !== graph.nodes.length };
}

describe('a LoRA branch beside a frozen weight', () => {
  test.each(FAMILY_FIXTURES)(
    '%s: keeps loss and gradients when it is folded into the weight',
    async (fixture) => {
      const { difference, changed } = await bothWays(await fixtureStep(fixture));
      expect(changed).toBe(true);
      expect(difference).toBeLessThan(1e-4);
    },
  );

  test.each(VARIANTS)(
    '%s: keeps loss and gradients if only some sums have this form',
    async (_, lora, options) => {
      const { model, rows } = await fixtureStep('llama-tiny-untied');
      const adapter = randomAdapter(model, loraConfig({ rank: 4, ...lora }));
      expect((await bothWays({ model, rows, ...adapter, options })).difference).toBeLessThan(1e-4);
    },
  );

  function branch(rows: number, { transposed = true } = {}): { graph: Graph; forwardNodes: number } {
    const [width, out, rank] = [64, 96, 4];
    const graph = new Graph();
    const x = graph.input('x', [rows, width]);
    const [a, b] = [graph.input('a', [rank, width]), graph.input('b', [out, rank])];
    const w = graph.weight('w', transposed ? [out, width] : [width, out]);
    const low = linear(x, a);
    const y = linear(low, b, { scale: 2, addTo: addmm(null, x, w, { transposeB: transposed }) });
    const loss = reduceSum(multiply(y, y));
    const forwardNodes = graph.nodes.length;
    graph.output('loss', loss);
    for (const [i, gradient] of gradients(loss, [x, a, b]).entries()) graph.output(`d${i}`, gradient);
    return { graph, forwardNodes };
  }

  it.each([true, false])(
    'is folded into the weight, forward and backward, transposed or not (%s)',
    (transposed) => {
      const { graph } = branch(512, { transposed });
      const merged = foldBranches(graph);
      // Without folding, y takes three products: x with W, x with A, and the result with B. With folding, it takes
      // three too: B with A, x with the folded weight, and x with A, which the gradient of B reads. The gradient of x
      // also takes three products, with or without folding.
      expect(products(merged)).toBe(products(graph));
      const onto = merged.nodes.filter(
        ({ operation, inputs }) => operation === 'gemm' && inputs.length === 3,
      );
      expect(onto.map(({ inputs }) => inputs[2])).toEqual([merged.weights.get('w'), merged.weights.get('w')]);
    },
  );

  it('is folded again for each use, including recomputed ones', () => {
    const { graph, forwardNodes } = branch(512);
    const again = recomputeActivations(graph, { forwardNodes, from: graph.inputs.get('x')! });
    const merged = foldBranches(again);
    const readers = merged.nodes.flatMap(({ inputs }) => inputs);
    for (const { operation, inputs, outputs } of merged.nodes) {
      if (operation !== 'gemm' || inputs[2] !== merged.weights.get('w')) continue;
      expect(readers.filter((input) => input === outputs[0])).toHaveLength(1);
    }
  });

  it('stays separate if there are few rows', () => {
    const { graph } = branch(64);
    expect(foldBranches(graph).nodes.map(({ operation }) => operation)).toEqual(
      liveNodes(graph).map(({ operation }) => operation),
    );
  });
});
