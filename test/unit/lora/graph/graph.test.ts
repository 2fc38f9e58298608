import { describe, expect, test } from 'vitest';
import { Graph, type Tensor } from '../../../../lora/graph/graph.ts';
import * as ops from '../../../../lora/graph/ops.ts';
import { withCode } from '../../../utils/source/codes.ts';

function tensors() {
  const graph = new Graph();
  const float = (...shape: number[]) => graph.input(`float ${shape}`, shape);
  const int = (...shape: number[]) => graph.input(`int ${shape}`, shape, 'int64');
  return { graph, float, int };
}

describe('shapes are checked when the graph is built', () => {
  const { float, int } = tensors();
  const wrong: Record<string, () => Tensor> = {
    'add of sizes that do not broadcast': () => ops.add(float(2, 3), float(2)),
    'matmul of unequal inner sizes': () => ops.matmul(float(2, 3), float(2, 3)),
    'matmul that is right only without its flag': () =>
      ops.matmul(float(2, 3), float(3, 4), { transposeB: true }),
    'matmul of unequal leading axes': () => ops.matmul(float(2, 3, 3), float(1, 3, 3)),
    'matmul of unequal ranks': () => ops.matmul(float(2, 3, 3), float(3, 3)),
    'matmul of vectors': () => ops.matmul(float(3), float(3)),
    'linear onto a wrong addend': () => ops.linear(float(2, 3), float(4, 3), { addTo: float(4, 2) }),
    'reshape to another count': () => ops.reshape(float(2, 3), [4, 2]),
    'reshape with two unknown sizes': () => ops.reshape(float(2, 3), [-1, -1]),
    'reshape that does not divide': () => ops.reshape(float(2, 3), [4, -1]),
    'transpose by no permutation': () => ops.transpose(float(2, 3), [0, 0]),
    'slice beyond the end': () => ops.slice(float(2, 3), 1, 1, 4),
    'an empty slice': () => ops.slice(float(2, 3), 1, 1, 1),
    'pad by a negative count': () => ops.pad(float(2, 3), 0, -1, 0),
    'concat of other widths': () => ops.concat([float(2, 3), float(2, 4)], 0),
    'concat of nothing': () => ops.concat([], 0),
    'an axis that is not there': () => ops.reduceSum(float(2, 3), 2),
    'broadcastTo a smaller shape': () => ops.broadcastTo(float(2, 3), [1, 3]),
    'softmax of a scalar': () => ops.softmax(float()),
    'rmsNorm with a short weight': () => ops.rmsNorm(float(2, 3), float(2), 1e-5),
    'gatherRows from a vector': () => ops.gatherRows(float(3), int(2)),
    'scatterAddRows of too few rows': () => ops.scatterAddRows(float(5, 3), int(2), float(3, 3)),
    'rotaryEmbedding of an odd width': () =>
      ops.rotaryEmbedding(float(1, 1, 2, 3), int(1, 2), float(4, 1), float(4, 1)),
    'rotaryEmbedding with too few positions': () =>
      ops.rotaryEmbedding(float(1, 1, 2, 4), int(1, 1), float(4, 2), float(4, 2)),
    'rotaryEmbedding with a wide table': () =>
      ops.rotaryEmbedding(float(1, 1, 2, 4), int(1, 2), float(4, 4), float(4, 4)),
    'crossEntropy with too few labels': () => ops.crossEntropy(float(2, 3), int(3)),
  };
  for (const [name, build] of Object.entries(wrong)) {
    test(name, () => expect(build).toThrow(withCode('GRAPH_SHAPE')));
  }

  test('the error names the operation and both shapes', () => {
    expect(() => ops.linear(float(2, 3), float(4, 5))).toThrow(
      expect.objectContaining({
        values: {
          operation: 'matmul',
          shapes: [
            [2, 3],
            [4, 5],
          ],
        },
      }),
    );
  });

  test('constants and inputs', () => {
    const { graph } = tensors();
    expect(() => graph.constant([3], new Float32Array(2))).toThrow(withCode('GRAPH_SHAPE'));
    for (const size of [0, -1, 1.5, Number.NaN])
      expect(() => graph.input('x', [size])).toThrow(withCode('GRAPH_SHAPE'));
  });
});

describe('element types', () => {
  const { graph, float, int } = tensors();
  test.each<[string, () => unknown]>([
    ['arithmetic on ids', () => ops.add(float(2), int(2))],
    ['products of ids', () => ops.matmul(int(2, 2), float(2, 2))],
    ['lookup by floats', () => ops.gatherRows(float(2, 2), float(2))],
    ['float labels', () => ops.crossEntropy(float(2, 2), float(2))],
    ['float positions', () => ops.rotaryEmbedding(float(1, 1, 1, 2), float(1, 1), float(1, 1), float(1, 1))],
    ['ids as an output', () => graph.output('ids', int(2))],
  ])('%s', (_, build) => expect(build).toThrow(withCode('GRAPH_DTYPE')));
});

describe('names', () => {
  test('the same name gives the same tensor, and another shape or role is refused', () => {
    const { graph } = tensors();
    expect(graph.input('x', [2])).toBe(graph.input('x', [2]));
    expect(graph.weight('w', [2])).toBe(graph.weight('w', [2]));
    expect(() => graph.input('x', [3])).toThrow(withCode('GRAPH_NAME'));
    expect(() => graph.input('x', [2], 'int64')).toThrow(withCode('GRAPH_NAME'));
    expect(() => graph.weight('x', [2])).toThrow(withCode('GRAPH_NAME'));
    expect(() => graph.input('w', [2])).toThrow(withCode('GRAPH_NAME'));
    graph.output('y', graph.input('x', [2]));
    expect(() => graph.output('y', graph.weight('w', [2]))).toThrow(withCode('GRAPH_NAME'));
  });

  test('tensors of two graphs are refused in one operation', () => {
    const one = new Graph().input('x', [2]);
    const two = new Graph().input('x', [2]);
    expect(() => ops.add(one, two)).toThrow(withCode('GRAPH_MIXED'));
    expect(() => new Graph().output('y', one)).toThrow(withCode('GRAPH_MIXED'));
  });
});

describe('sharing', () => {
  test('equal constants and equal operations are one tensor', () => {
    const { graph, float } = tensors();
    const x = float(2, 3);
    expect(graph.constant([2], Float32Array.of(1, 2))).toBe(graph.constant([2], Float32Array.of(1, 2)));
    expect(graph.constant([2], Float32Array.of(1, 2))).not.toBe(
      graph.constant([1, 2], Float32Array.of(1, 2)),
    );
    expect(graph.constant([2], new Float32Array(2))).not.toBe(graph.constant([1], new BigInt64Array(1)));
    expect(ops.silu(x)).toBe(ops.silu(x));
    expect(ops.transpose(x)).toBe(ops.transpose(x, [1, 0]));
    expect(ops.scale(x, 2)).not.toBe(ops.scale(x, 3));
  });

  test('a constant copies its data', () => {
    const { graph } = tensors();
    const data = Float32Array.of(1, 2);
    const tensor = graph.constant([2], data);
    data[0] = 9;
    expect(graph.constants.get(tensor)).toEqual(Float32Array.of(1, 2));
  });

  test('a chain of reshapes is one reshape', () => {
    const { graph, float } = tensors();
    const x = float(2, 3);
    expect(ops.reshape(ops.reshape(x, [6]), [2, -1])).toBe(x);
    ops.reshape(ops.reshape(x, [6]), [3, 2]);
    expect(graph.nodes.at(-1)!.inputs).toEqual([x]);
  });
});
