import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, test } from 'vitest';
import type { Engine } from '../../../../../lora/engines/engine.ts';
import { createEngine } from '../../../../../lora/engines/engine.ts';
import { Graph } from '../../../../../lora/graph/graph.ts';
import { add, exp, silu } from '../../../../../lora/graph/ops.ts';
import { rewriteGraph } from '../../../../../lora/graph/passes/graph-copy.ts';
import { liveNodes } from '../../../../../lora/graph/passes/live-nodes.ts';
import { prepareWeights } from '../../../../../lora/models/weights/prepare-weights.ts';
import { countSupervised } from '../../../../../lora/train/supervised.ts';
import { runOnEach } from '../../../../utils/models/executors.ts';
import { FAMILY_FIXTURES } from '../../../../utils/models/families.ts';
import { fixtureStep, stepOf } from '../../../../utils/models/step-cases.ts';

let cacheDir: string;
let engine: Engine;

beforeAll(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), 'live-nodes-test-'));
  engine = await createEngine('onnx-cpu', { threads: 1 });
});

afterAll(() => rm(cacheDir, { recursive: true, force: true }));

describe('a graph without its dead nodes', () => {
  test.each(FAMILY_FIXTURES)('%s: has the same loss and gradients bit for bit', async (fixture) => {
    const step = await fixtureStep(fixture);
    const { graph, feeds } = stepOf({ ...step, supervised: countSupervised(step.rows) });
    const weights = await prepareWeights(step.model, cacheDir);
    // The new graph has only live nodes. It must contain every tensor that these nodes read.
    const lean = rewriteGraph(graph, (node, copy) => copy.add(node));
    expect(lean.nodes.length).toBeLessThan(graph.nodes.length);
    const [found] = await runOnEach([engine], lean, feeds, weights);

    const names = [...graph.outputs.keys()];
    const live = new Set(liveNodes(graph));
    for (const node of graph.nodes.filter((node) => !live.has(node))) {
      const [first] = node.outputs;
      // Integers cannot be outputs.
      if (first!.dtype === 'float32') graph.output(`dead/${first!.id}`, first!);
    }
    expect(liveNodes(graph)).toHaveLength(graph.nodes.length);
    const [all] = await runOnEach([engine], graph, feeds, weights);
    expect(found).toEqual(Object.fromEntries(names.map((name) => [name, all![name]])));
  });

  it('has the nodes that its outputs depend on, in order, and no others', () => {
    const graph = new Graph();
    const x = graph.input('x', [2]);
    const kept = exp(x);
    silu(kept);
    const sum = add(kept, x);
    exp(sum);
    graph.output('sum', sum);
    expect(liveNodes(graph)).toEqual([kept.node, sum.node]);
    graph.output('again', silu(kept));
    expect(liveNodes(graph).map(({ operation }) => operation)).toEqual(['exp', 'silu', 'add']);
  });
});
