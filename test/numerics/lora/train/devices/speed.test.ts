import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { Engine } from '../../../../../lora/engines/engine.ts';
import type { Graph } from '../../../../../lora/graph/graph.ts';
import { measureSpeed } from '../../../../../lora/train/devices/speed.ts';

const { signal } = new AbortController();
const size = { tokens: 16, width: 8 };
/** FLOPs of one product of a 16 × 8 matrix with an 8 × 24 matrix. `measureSpeed` times products of this size. */
const FLOPS = 2 * 16 * 8 * 24;

beforeEach(() => vi.useFakeTimers({ toFake: ['performance'] }));
afterEach(() => vi.useRealTimers());

/** Makes an engine whose runs take `cost(graph)` ms. The first run of a graph takes a second more, for compiling kernels. */
function engine(cost: (graph: Graph) => number): Engine {
  return {
    name: 'onnx-webgpu',
    compile: async (graph) => {
      let runs = 0;
      return {
        run: async () => {
          vi.advanceTimersByTime(cost(graph) + (runs++ === 0 ? 1000 : 0));
          return {};
        },
        dispose: async () => {},
      };
    },
  };
}

test('the first run, which compiles, does not count', async () => {
  const { flops, secondsPerOperation } = await measureSpeed(
    engine(() => 10),
    { ...size, signal },
  );
  // A run computes twenty products in 10 ms.
  expect(flops).toBeCloseTo((20 * FLOPS) / 0.01, 3);
  expect(secondsPerOperation).toBeCloseTo(0.01 / 100, 9);
});

test('products with an 8- or 4-bit base have their own speed, in both precisions', async () => {
  const inFloat16 = (graph: Graph) =>
    graph.nodes.some(({ attributes }) => 'float16' in attributes && attributes.float16 === true);
  const device = engine((graph) => (graph.weights.size > 0 ? 20 : 10) * (inFloat16(graph) ? 0.5 : 1));
  const speed = await measureSpeed(device, { ...size, baseBits: 4, float16: true, signal });
  expect(speed.baseFlops).toBeCloseTo(speed.flops / 2, 3);
  expect(speed.float16Flops).toBeCloseTo(speed.flops, 3);
  const whole = await measureSpeed(device, { ...size, float16: true, signal });
  expect(whole.baseFlops).toBeUndefined();
  expect(whole.float16Flops).toBeCloseTo(2 * whole.flops, 3);
});
