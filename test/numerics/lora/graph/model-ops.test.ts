import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Graph, type Tensor } from '../../../../lora/graph/graph.ts';
import * as ops from '../../../../lora/graph/ops.ts';
import { sequenceFeeds } from '../../../../lora/models/sequences.ts';
import { evaluate } from '../../../utils/models/graphs.ts';
import { withCode } from '../../../utils/source/codes.ts';

describe('values', () => {
  test('geluTanh, including values where the exponential overflows', async () => {
    const values = [-1000, -3, -0.5, 0, 0.5, 3, 1000];
    const { y } = await evaluate((graph) => ({
      y: ops.geluTanh(graph.constant([values.length], Float32Array.from(values))),
    }));
    for (const [i, x] of values.entries()) {
      const u = Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3);
      expect(y![i]).toBeCloseTo((x * (1 + Math.tanh(u))) / 2, 5);
    }
  });

  test('layerNorm over the last axis', async () => {
    const { y } = await evaluate((graph) => ({
      y: ops.layerNorm(
        graph.constant([1, 2], Float32Array.of(3, 7)),
        graph.constant([2], Float32Array.of(1, 2)),
        graph.constant([2], Float32Array.of(0, 10)),
        0.5,
      ),
    }));
    const r = 1 / Math.sqrt(4 + 0.5);
    expect(y![0]).toBeCloseTo(-2 * r, 5);
    expect(y![1]).toBeCloseTo(4 * r + 10, 5);
  });

  test('causalMask shows a token the earlier tokens of its segment and itself, within the window', () => {
    const row = fc.array(fc.nat(2), { minLength: 1, maxLength: 12 });
    const window = fc.option(fc.integer({ min: 1, max: 13 }));
    return fc.assert(
      fc.asyncProperty(row, row, window, async (first, second, limit) => {
        const T = Math.min(first.length, second.length);
        const rows = [first.slice(0, T), second.slice(0, T)];
        const feeds = sequenceFeeds(
          rows.map((segments) => ({ ids: segments, segments })),
          T,
        );
        const { mask } = await evaluate(
          (graph) => ({ mask: ops.causalMask(graph.input('positions', [2, T], 'int64'), limit) }),
          { positions: feeds.positions },
        );
        for (const [r, segments] of rows.entries()) {
          for (let t = 0; t < T; t++) {
            for (let s = 0; s < T; s++) {
              const run = s <= t && segments.slice(s, t + 1).every((segment) => segment === segments[t]);
              const sees = run && (limit === null || t - s < limit);
              expect(mask![(r * T + t) * T + s], `${t} sees ${s}`).toBe(sees ? 0 : Math.fround(ops.MASKED));
            }
          }
        }
      }),
      { numRuns: 25 },
    );
  });
});

describe('shapes and sharing', () => {
  const graph = new Graph();
  const float = (...of: number[]) => graph.input(`float ${of}`, of);
  const positions = graph.input('positions', [2, 4], 'int64');

  test.each<[string, () => Tensor]>([
    ['layerNorm with a short weight', () => ops.layerNorm(float(2, 3), float(2), float(3), 1e-5)],
    ['layerNorm with a short bias', () => ops.layerNorm(float(2, 3), float(3), float(2), 1e-5)],
    ['linear with a short bias', () => ops.linear(float(2, 3), float(4, 3), { addTo: float(3) })],
    ['causalMask of flat positions', () => ops.causalMask(graph.input('flat', [4], 'int64'))],
    ['causalMask with an empty window', () => ops.causalMask(positions, 0)],
  ])('%s', (_, build) => expect(build).toThrow(withCode('GRAPH_SHAPE')));

  test('a window as long as the rows counts as no window', () => {
    expect(ops.causalMask(positions, 4)).toBe(ops.causalMask(positions));
    expect(ops.causalMask(positions, 3)).not.toBe(ops.causalMask(positions));
  });
});
