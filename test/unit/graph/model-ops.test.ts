import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Graph, type Tensor } from '../../../lora/graph/graph.ts';
import * as ops from '../../../lora/graph/ops.ts';
import type { Shape } from '../../../lora/graph/shapes.ts';
import { sequenceFeeds } from '../../../lora/models/sequences.ts';
import { evaluate, gradientError, numbers } from '../../utils/graphs.ts';

/** Central differences in float32 are no better than this. */
const TOLERANCE = 5e-3;

const size = fc.integer({ min: 1, max: 5 });
const shape = fc.array(size, { minLength: 1, maxLength: 4 });
const seed = fc.integer({ min: 1, max: 2 ** 31 - 1 });

async function worstGradient(
  shapes: Record<string, Shape>,
  from: number,
  build: (tensors: Record<string, Tensor>) => Tensor,
  spread = 1,
): Promise<number> {
  const inputs = Object.fromEntries(
    Object.entries(shapes).map(([name, of], index) => {
      const count = of.reduce((product, n) => product * n, 1);
      const data = numbers(count, from + 101 * index).map((value) => spread * value);
      return [name, { shape: of, data }];
    }),
  );
  return gradientError({ inputs, build: (_, tensors) => build(tensors) }, from + 7);
}

describe('gradient rules agree with central differences', () => {
  const runs = { numRuns: 25 };

  test('geluTanh', () =>
    fc.assert(
      fc.asyncProperty(shape, seed, async (of, from) => {
        const error = await worstGradient({ x: of }, from, ({ x }) => ops.geluTanh(x!), 3);
        expect(error).toBeLessThan(TOLERANCE);
      }),
      runs,
    ));

  test('layerNorm', () =>
    fc.assert(
      fc.asyncProperty(shape, seed, async (of, from) => {
        const width = [of.at(-1)!];
        const error = await worstGradient(
          { x: of, weight: width, bias: width },
          from,
          ({ x, weight, bias }) => ops.layerNorm(x!, weight!, bias!, 0.1),
        );
        expect(error).toBeLessThan(TOLERANCE);
      }),
      runs,
    ));

  test('linear with a bias', () =>
    fc.assert(
      fc.asyncProperty(size, size, size, seed, async (n, inner, out, from) => {
        const error = await worstGradient({ x: [n, inner], w: [out, inner], b: [out] }, from, ({ x, w, b }) =>
          ops.linear(x!, w!, { addTo: b, scale: 0.5 }),
        );
        expect(error).toBeLessThan(TOLERANCE);
      }),
      runs,
    ));
});

describe('values', () => {
  test('geluTanh, also where the exponential is out of range', async () => {
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

  test('causalMask shows a token its own run of equal segment numbers up to itself, and no more than the window', () => {
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
              expect(mask![(r * T + t) * T + s], `${t} sees ${s}`).toBe(sees ? 0 : Math.fround(ops.HIDDEN));
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
  ])('%s', (_, build) => expect(build).toThrow(expect.objectContaining({ code: 'GRAPH_SHAPE' })));

  test('a window as long as the rows is none', () => {
    expect(ops.causalMask(positions, 4)).toBe(ops.causalMask(positions));
    expect(ops.causalMask(positions, 3)).not.toBe(ops.causalMask(positions));
  });
});
