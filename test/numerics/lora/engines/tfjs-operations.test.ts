import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import { createEngine, type Engine } from '../../../../lora/engines/engine.ts';
import { LOWERINGS } from '../../../../lora/engines/tfjs/lower.ts';
import { Graph } from '../../../../lora/graph/graph.ts';
import { randomSeed, uniform } from '../../../../lora/graph/ops.ts';
import { disagreement, runOnEach } from '../../../utils/models/executors.ts';
import { slopesOf } from '../../../utils/models/graphs.ts';
import { OPERATION_CASES } from '../../../utils/models/operation-cases.ts';
import { tfjsOnCpu } from '../../../utils/models/tfjs.ts';

/** Difference of two float32 engines that sum in different orders, at values around 1. */
const TOLERANCE = 1e-4;

let engines: Engine[];
beforeAll(async () => {
  engines = [await tfjsOnCpu(), await createEngine('onnx-cpu', { threads: 1 })];
});

const compared = new Set<string>();

describe('values and gradients match onnx', () => {
  test.each(Object.entries(OPERATION_CASES))('%s', async (_, cases) => {
    await fc.assert(
      fc.asyncProperty(cases, fc.integer({ min: 1, max: 2 ** 31 - 1 }), async (example, from) => {
        const { graph, feeds } = slopesOf(example, from);
        for (const { operation } of graph.nodes) compared.add(operation);
        const [found, expected] = await runOnEach(engines, graph, feeds);
        expect(disagreement(found!, expected!)).toBeLessThan(TOLERANCE);
      }),
      { numRuns: 25 },
    );
  });

  test('for every operation, except the one that tfjs refuses', () => {
    // A cache that is updated in place exists only in onnxruntime.
    const refused = ['cachedAttention'];
    expect(Object.keys(LOWERINGS).filter((operation) => !compared.has(operation))).toEqual(refused);
  });
});

test('random numbers match onnx bit for bit', () =>
  fc.assert(
    fc.asyncProperty(
      fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 3 }),
      fc.nat(2 ** 31 - 1),
      fc.nat(2 ** 31 - 1),
      async (shape, seed, stream) => {
        const graph = new Graph();
        graph.output('u', uniform(shape, randomSeed(graph), stream));
        const [found, expected] = await runOnEach(engines, graph, { seed: BigInt64Array.of(BigInt(seed)) });
        expect(found).toEqual(expected);
      },
    ),
    {
      numRuns: 50,
      examples: [
        [[2, 3], 2 ** 31 - 1, 2 ** 31 - 1],
        [[2, 3], 0, 0],
      ],
    },
  ));
