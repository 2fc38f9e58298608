import { describe, expect, test } from 'vitest';
import { gradients } from '../../../../lora/graph/gradients.ts';
import { Graph, type Tensor } from '../../../../lora/graph/graph.ts';
import * as ops from '../../../../lora/graph/ops.ts';
import { evaluate } from '../../../utils/models/graphs.ts';
import { maxDifference } from '../../../utils/models/reference.ts';
import { trainingReference } from '../../../utils/models/training-reference.ts';
import { withCode } from '../../../utils/source/codes.ts';

/** Maximum difference. Both sides compute in float32, with values around 1. */
const TOLERANCE = 2e-6;

const cases = trainingReference().labelSmoothing;

describe.each(cases)("smoothing $epsilon matches transformers' LabelSmoother", (reference) => {
  const { epsilon: smoothing, tokens, vocabulary, width } = reference;
  const supervised = reference.labels.filter((label) => label >= 0).length;
  const labels = (graph: Graph) => graph.constant([tokens], BigInt64Array.from(reference.labels, BigInt));
  /** Mean over the tokens with a label, as LabelSmoother computes it. */
  const mean = (graph: Graph, logits: Tensor) =>
    ops.scale(ops.reduceSum(ops.crossEntropy(logits, labels(graph), { smoothing })), 1 / supervised);

  test('from an output head', async () => {
    const feeds = { x: Float32Array.from(reference.x), w: Float32Array.from(reference.w) };
    const found = await evaluate((graph) => {
      const x = graph.input('x', [tokens, width]);
      const w = graph.input('w', [vocabulary, width]);
      const loss = mean(graph, ops.linear(x, w));
      const [dx, dw] = gradients(loss, [x, w]);
      return { loss, dx: dx!, dw: dw! };
    }, feeds);
    expect(maxDifference(found.loss!, [reference.loss])).toBeLessThan(TOLERANCE);
    expect(maxDifference(found.dx!, reference.gradient.x)).toBeLessThan(TOLERANCE);
    expect(maxDifference(found.dw!, reference.gradient.w)).toBeLessThan(TOLERANCE);
  });

  test('from given logits', async () => {
    const found = await evaluate(
      (graph) => {
        const logits = graph.input('logits', [tokens, vocabulary]);
        const loss = mean(graph, logits);
        return { loss, slope: gradients(loss, [logits])[0]! };
      },
      { logits: Float32Array.from(reference.logits) },
    );
    expect(maxDifference(found.loss!, [reference.loss])).toBeLessThan(TOLERANCE);
    expect(maxDifference(found.slope!, reference.gradient.logits)).toBeLessThan(TOLERANCE);
  });
});

test('smoothing outside [0, 1) is refused', () => {
  const graph = new Graph();
  const logits = graph.input('logits', [1, 3]);
  const labels = graph.constant([1], BigInt64Array.of(0n));
  for (const smoothing of [1, -0.1, Number.NaN]) {
    expect(() => ops.crossEntropy(logits, labels, { smoothing })).toThrow(withCode('GRAPH_SMOOTHING'));
  }
});
