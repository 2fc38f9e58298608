import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, test } from 'vitest';
import { loraConfig } from '../../../../../lora/adapter/lora-config.ts';
import type { Engine, Feeds } from '../../../../../lora/engines/engine.ts';
import { createEngine } from '../../../../../lora/engines/engine.ts';
import { graphCost } from '../../../../../lora/graph/cost.ts';
import { gradients } from '../../../../../lora/graph/gradients.ts';
import { Graph } from '../../../../../lora/graph/graph.ts';
import { add, matmul, multiply, reduceSum, silu } from '../../../../../lora/graph/ops.ts';
import { recomputeActivations } from '../../../../../lora/graph/passes/recompute.ts';
import { elementCount } from '../../../../../lora/graph/shapes.ts';
import { prepareWeights } from '../../../../../lora/models/weights/prepare-weights.ts';
import { adaptedParameters } from '../../../../../lora/train/adapted-model.ts';
import { rowFeeds, type TrainingGraphOptions, trainingGraph } from '../../../../../lora/train/step.ts';
import { completionRows, FAMILY_FIXTURES, openFamily } from '../../../../utils/models/families.ts';
import { numbers } from '../../../../utils/models/graphs.ts';

const BATCH = 2;
const LENGTH = 32;

let cacheDir: string;
let engine: Engine;

beforeAll(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), 'recompute-test-'));
  engine = await createEngine('onnx-cpu', { threads: 1 });
});

afterAll(() => rm(cacheDir, { recursive: true, force: true }));

async function bothWays(fixture: string, lora = {}, options: TrainingGraphOptions = {}, supervised = 20) {
  const { model, adapter } = await openFamily(fixture);
  const config = loraConfig({ ...adapter.lora, ...lora });
  const size = { ...model, batch: BATCH, length: LENGTH, supervised };
  const rows = completionRows(BATCH, LENGTH, model.config.vocabularySize, 0.3);
  const weights = await prepareWeights(model, cacheDir);
  const run = async (checkpointing: boolean) => {
    const { graph } = trainingGraph(
      size,
      (graph) => adaptedParameters(graph, model, config, { training: true }),
      { ...options, checkpointing },
    );
    const feeds: Record<string, Feeds[string]> = { ...rowFeeds(rows, size) };
    for (const [name, { shape, dtype }] of graph.inputs) {
      if (feeds[name] === undefined && dtype === 'float32')
        feeds[name] = numbers(elementCount(shape), name.length);
    }
    if (graph.inputs.has('seed')) feeds.seed = BigInt64Array.of(12_345n);
    const executable = await engine.compile(graph, weights);
    try {
      return { cost: graphCost(graph), outputs: await executable.run(feeds) };
    } finally {
      await executable.dispose();
    }
  };
  return { plain: await run(false), saving: await run(true) };
}

describe('recomputing the forward pass', () => {
  test.each(FAMILY_FIXTURES)('%s: keeps all outputs bit for bit', async (fixture) => {
    const { plain, saving } = await bothWays(fixture);
    expect(Object.keys(plain.outputs).length).toBeGreaterThan(1);
    expect(saving.outputs).toEqual(plain.outputs);
    expect(saving.cost.flops).toBeGreaterThan(plain.cost.flops);
  });

  it('draws the same random numbers again', async () => {
    const { plain, saving } = await bothWays(
      'llama-tiny-tied',
      { dropout: 0.3, useDora: true },
      { neftuneAlpha: 5, labelSmoothing: 0.1 },
    );
    expect(saving.outputs).toEqual(plain.outputs);
  });

  it('holds one segment at a time, and computes no product onto the residual stream twice', () => {
    const depth = 12;
    const width = 64;
    const rows = 256;
    const graph = new Graph();
    const ids = graph.input('x', [rows, width]);
    let x = ids;
    const parameters = Array.from({ length: depth }, (_, i) => graph.input(`w${i}`, [width, 4 * width]));
    for (const [i, w] of parameters.entries()) {
      const wide = silu(matmul(x, w));
      x = add(x, matmul(multiply(wide, wide), graph.weight(`down${i}`, [4 * width, width])));
    }
    const loss = reduceSum(x);
    const forwardNodes = graph.nodes.length;
    for (const [i, gradient] of gradients(loss, parameters).entries()) graph.output(`d${i}`, gradient);
    graph.output('loss', loss);
    const plain = graphCost(graph);
    const saving = graphCost(recomputeActivations(graph, { forwardNodes, from: ids }));
    expect(saving.activationBytes).toBeLessThan(0.4 * plain.activationBytes);
    // The product of x and w, whose result is wide, is recomputed in all segments except the last.
    expect(saving.flops - plain.flops).toBe((depth - 1) * 2 * rows * width * 4 * width);
  });
});
