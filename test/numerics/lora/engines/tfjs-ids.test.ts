import { expect, test } from 'vitest';
import { idRanges, toInt32 } from '../../../../lora/engines/tfjs/ids.ts';
import { gradients } from '../../../../lora/graph/gradients.ts';
import { Graph } from '../../../../lora/graph/graph.ts';
import * as ops from '../../../../lora/graph/ops.ts';

const LEAST = -(2 ** 31);

test('the tables that an input indexes limit its range, through operations that move ids and in the backward pass', () => {
  const graph = new Graph();
  const ids = graph.input('ids', [4], 'int64');
  const labels = graph.input('labels', [4], 'int64');
  const positions = graph.input('positions', [1, 4], 'int64');
  const segments = graph.input('segments', [1, 4], 'int64');
  const table = graph.input('table', [9, 2]);
  const x = ops.concat([ops.gatherRows(table, ops.slice(ids, 0, 0, 1)), ops.gatherRows(table, ids)], 0);
  const angles = graph.constant([5, 1], new Float32Array(5));
  const turned = ops.rotaryEmbedding(
    ops.reshape(ops.slice(x, 0, 1, 5), [1, 1, 4, 2]),
    positions,
    angles,
    angles,
  );
  const hidden = ops.reshape(turned, [4, 2]);
  // The same ids also select rows of this shorter table, so they must be below 7.
  const short = ops.gatherRows(graph.input('short', [7, 2]), ids);
  const logits = ops.linear(ops.add(hidden, short), graph.input('head', [6, 2]));
  const losses = ops.crossEntropy(logits, labels, { smoothing: 0.1 });
  graph.output('table', gradients(ops.reduceSum(losses), [table])[0]!);
  graph.output('mask', ops.causalMask(segments));

  const ranges = idRanges(graph.nodes);
  expect(ranges.get(ids)).toEqual({ from: 0, below: 7 });
  expect(ranges.get(labels)).toEqual({ from: LEAST, below: 6 });
  expect(ranges.get(positions)).toEqual({ from: 0, below: 5 });
  // Segments have no range, because they select no rows. They are only compared with each other.
  expect(ranges.has(segments)).toBe(false);
});

test('values out of range or out of int32 are refused', () => {
  const refused = (value: bigint) => {
    try {
      return [...toInt32('ids', BigInt64Array.of(1n, value), { from: 0, below: 3 })];
    } catch (error) {
      return error;
    }
  };
  expect(refused(2n)).toEqual([1, 2]);
  for (const value of [3n, -1n])
    expect(refused(value)).toMatchObject({
      code: 'ENGINE_RUN',
      values: { name: 'ids', value: Number(value), below: 3 },
    });
  for (const value of [2n ** 31n, -(2n ** 31n) - 1n, 2n ** 62n])
    expect(refused(value)).toMatchObject({
      code: 'ENGINE_FEED',
      values: { name: 'ids', value: String(value) },
    });
  expect(toInt32('labels', BigInt64Array.of(-(2n ** 31n), 2n ** 31n - 1n))).toEqual(
    Int32Array.of(LEAST, 2 ** 31 - 1),
  );
});
