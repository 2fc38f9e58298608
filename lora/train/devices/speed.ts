/**
 * Measures an engine's speed on this machine with single operations, without loading a model, and estimates the time of
 * a step from it.
 */
import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Engine } from '../../engines/engine.ts';
import type { Precision } from '../../engines/precision.ts';
import type { WeightFile } from '../../engines/weights.ts';
import { Graph, type Tensor } from '../../graph/graph.ts';
import { add, broadcastTo, matmul, multiply, type ProductOptions, reduceSum } from '../../graph/ops.ts';
import type { BaseBits } from '../../models/base/base-bits.ts';
import { placeMatrix } from '../../models/weights/prepare-weights.ts';
import { Layout } from '../../models/weights/weight-cache.ts';
import type { WorkEstimate } from '../memory/estimate.ts';

/** Measured speed of a device. */
export interface MachineSpeed {
  /** FLOP/s of a float32 matrix product. */
  readonly flops: number;
  /** FLOP/s of a matrix product with an 8-bit or 4-bit base weight; absent at 32 bits. */
  readonly baseFlops?: number;
  /** FLOP/s of a float16 matrix product with a base weight of `baseBits` bits; absent if the device lacks float16. */
  readonly float16Flops?: number;
  /** Bytes per second that an element-wise multiplication of two large tensors reads and writes. */
  readonly bytes: number;
  /** Overhead of one operation: the time to call a kernel or, on a GPU, to launch it. */
  readonly secondsPerOperation: number;
}

export interface SpeedOptions {
  /**
   * Tokens of a micro-batch and width of the model. The measured matrix products have this size, because products of
   * small matrices reach a lower speed.
   */
  tokens: number;
  width: number;
  /** Bits of a base weight. @default 32 */
  baseBits?: BaseBits;
  /** Whether to measure float16 matrix products too, on a device that supports them. @default false */
  float16?: boolean;
  signal: AbortSignal;
}

/** Time of one measurement, long enough to get past the first runs of a graph, which are slow. */
const PROBE_MS = 400;
/** Maximum number of rows of the probe's matrices. More rows do not raise the measured speed. */
const PROBE_ROWS = 2048;
/** Approximate width of the hidden layer in an MLP block, as a multiple of the model's width. */
const WIDENING = 3;
/** Number of operations on large tensors in one graph. With more operations, the overhead of a run matters less. */
const CHAIN = 10;
/**
 * Number of operations in the graph that works on a single number. The time of this graph gives the overhead
 * of an operation.
 */
const CALLS = 100;
/**
 * Maximum number of floating-point operations per run of a graph. This limit keeps a run short on a slow
 * device.
 */
const RUN_FLOPS = 2 ** 34;

/**
 * Measures three to five kinds of operations for 0.4 seconds each. Each graph takes and returns a single number, so
 * transfers to and from the device do not count.
 */
export async function measureSpeed(
  engine: Engine,
  { tokens, width, baseBits = 32, float16 = false, signal }: SpeedOptions,
): Promise<MachineSpeed> {
  const rows = Math.min(PROBE_ROWS, tokens);
  const columns = WIDENING * width;

  const flops = 2 * rows * width * columns;
  const pairs = Math.max(1, Math.min(CHAIN, Math.floor(RUN_FLOPS / flops / 2)));
  const productSpeed = async (bits: BaseBits, options: ProductOptions) => {
    const graph = probeGraph([rows, width], (x, filled, graph) => {
      const shape = [columns, width];
      const weight = bits === 32 ? filled(shape) : graph.weight(WEIGHT, shape);
      let y = x;
      for (let i = 0; i < pairs; i++) {
        // Training uses a base weight in the forward and in the backward pass.
        y = matmul(matmul(y, weight, { ...options, transposeB: true }), weight, options);
      }
      return y;
    });
    const seconds =
      bits === 32
        ? await fastestRun(engine, { graph, weights: null, signal })
        : await withWeight([columns, width], bits, (weights) =>
            fastestRun(engine, { graph, weights, signal }),
          );
    return (2 * pairs * flops) / seconds;
  };
  const chain = probeGraph([rows, columns], (x) => {
    let y = x;
    for (let i = 0; i < CHAIN; i++) y = multiply(y, x);
    return y;
  });
  const calls = probeGraph([1], (x) => {
    let y = x;
    for (let i = 0; i < CALLS; i++) y = add(y, x);
    return y;
  });
  const secondsOf = (graph: Graph) => fastestRun(engine, { graph, weights: null, signal });
  return {
    flops: await productSpeed(32, {}),
    ...(baseBits !== 32 && { baseFlops: await productSpeed(baseBits, {}) }),
    ...(float16 && { float16Flops: await productSpeed(baseBits, { float16 }) }),
    bytes: (3 * 4 * CHAIN * rows * columns) / (await secondsOf(chain)),
    secondsPerOperation: (await secondsOf(calls)) / CALLS,
  };
}

/**
 * Builds a graph with a number as input and output. The input is broadcast to `shape`, and the result of `build` is
 * summed.
 */
function probeGraph(
  shape: readonly number[],
  build: (x: Tensor, filled: (shape: readonly number[]) => Tensor, graph: Graph) => Tensor,
): Graph {
  const graph = new Graph();
  const x = graph.input('x', [1]);
  const filled = (of: readonly number[]) => broadcastTo(x, of);
  graph.output('y', reduceSum(build(filled(shape), filled, graph), null, false));
  return graph;
}

const WEIGHT = 'weight';

/** Calls `use` with a file that holds a quantised matrix of zeros: a sparse file, which takes no space on disk. */
async function withWeight<T>(
  shape: readonly [number, number],
  bits: Exclude<BaseBits, 32>,
  use: (weights: WeightFile) => Promise<T>,
): Promise<T> {
  const layout = new Layout();
  const quantised = new Map([[WEIGHT, placeMatrix(layout, shape, bits)]]);
  const folder = await mkdtemp(join(tmpdir(), 'swarm-probe-'));
  try {
    const path = join(folder, 'weight');
    await writeFile(path, '');
    await truncate(path, layout.size);
    return await use({ path, entries: new Map(), quantised });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Value of the inputs, small enough that no chain of operations overflows float32. */
const VALUE = 2 ** -10;

/** Returns the seconds of the fastest run of a graph. */
async function fastestRun(
  engine: Engine,
  { graph, weights, signal }: { graph: Graph; weights: WeightFile | null; signal: AbortSignal },
): Promise<number> {
  const executable = await engine.compile(graph, weights);
  const run = () => executable.run({ x: Float32Array.of(VALUE) });
  try {
    // The first run does not count, because a GPU's driver compiles its kernels in it.
    await run();
    const started = performance.now();
    let fastest = Number.POSITIVE_INFINITY;
    for (let now = started; now - started < PROBE_MS; ) {
      signal.throwIfAborted();
      await run();
      const before = now;
      now = performance.now();
      fastest = Math.min(fastest, now - before);
    }
    return fastest / 1000;
  } finally {
    await executable.dispose();
  }
}

/**
 * Slowdown of all operations other than matrix products (softmax, transpositions, gathers), relative to the probe's
 * chain of multiplications. This constant and the two below were fitted to two measurements: a model of 3M parameters
 * on one thread, and a model of 135M parameters on two threads (docs/decisions/080-training.md).
 */
const SLOWNESS = 2;
/**
 * Smallest time in seconds that an operation takes, however few values it has. It is used only for a
 * processor, because the probe there measures a smaller time than training takes.
 */
const MIN_SECONDS_PER_OPERATION = 5e-6;
/** Speed of a whole step, as a share of the speed at which its operations run one at a time. */
const EFFICIENCY = 0.85;

/**
 * Estimates the seconds of an optimiser step on an idle machine. Matrix products run at their measured speed. For
 * products with base weights, this is the speed measured for the base's bits and precision. All other operations are
 * limited by the measured speed of memory.
 */
export function secondsPerStep(
  work: WorkEstimate,
  speed: MachineSpeed,
  precision: Precision = 'float32',
): number {
  const { flopsPerStep, baseFlopsPerStep, trafficPerStep, operationsPerStep } = work;
  const baseFlops = (precision === 'float16' ? speed.float16Flops : speed.baseFlops) ?? speed.flops;
  const products = (flopsPerStep - baseFlopsPerStep) / speed.flops + baseFlopsPerStep / baseFlops;
  const perOperation = Math.max(MIN_SECONDS_PER_OPERATION, speed.secondsPerOperation);
  const others = (SLOWNESS * trafficPerStep) / speed.bytes + operationsPerStep * perOperation;
  return (products + others) / EFFICIENCY;
}
