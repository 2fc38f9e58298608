import { expect, test } from 'vitest';
import { createEngine } from '../../../../lora/engines/engine.ts';
import { gradients } from '../../../../lora/graph/gradients.ts';
import { Graph } from '../../../../lora/graph/graph.ts';
import { detach, multiply, reduceSum } from '../../../../lora/graph/ops.ts';
import { withCode } from '../../../utils/source/codes.ts';

test('a detached value is a constant for the backward pass only', async () => {
  const graph = new Graph();
  const x = graph.input('x', [3]);
  const loss = reduceSum(multiply(x, detach(multiply(x, x))));
  graph.output('loss', loss);
  graph.output('dx', gradients(loss, [x])[0]!);
  const executable = await (await createEngine('onnx-cpu', { threads: 1 })).compile(graph, null);
  const found = await executable.run({ x: Float32Array.of(1, -2, 3) });
  await executable.dispose();
  expect([...found.loss!]).toEqual([1 - 8 + 27]);
  expect([...found.dx!]).toEqual([1, 4, 9]);
  const only = new Graph();
  const y = only.input('y', [2]);
  // The backward pass reaches the node, which passes no gradient on.
  expect(() => gradients(reduceSum(detach(y)), [y])).toThrow(withCode('GRAPH_NO_GRADIENT'));
});
