/** How fast an engine is on this machine, by single operations: nothing of a model is loaded for it. */
import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Engine } from '../engines/engine.ts';
import type { WeightFile } from '../engines/weights.ts';
import { Graph, type Tensor } from '../graph/graph.ts';
import { add, broadcastTo, matmul, multiply, type ProductOptions, reduceSum } from '../graph/ops.ts';
import type { BaseBits } from '../models/base-bits.ts';
import { placeMatrix } from '../models/prepare-weights.ts';
import { Layout } from '../models/weight-cache.ts';

export interface MachineSpeed {
  /** Floating-point operations per second in a matrix product. */
  readonly flops: number;
  /** The same with a matrix of the base, where that has fewer bits than 32. */
  readonly baseFlops?: number;
  /** The same with operands in float16, the base's matrix in its bits; none where the device does not have it. */
  readonly float16Flops?: number;
  /** Bytes per second in a product of two large tensors, element by element. */
  readonly bytes: number;
  /** What an operation costs that does next to nothing: a call of a kernel, on a GPU its launch. */
  readonly secondsPerOperation: number;
}

export interface SpeedOptions {
  /** Tokens of a micro-batch and width of the model: products of small matrices are slower. */
  tokens: number;
  width: number;
  /** That a weight of the base is kept in. @default 32 */
  baseBits?: BaseBits;
  /** Whether products in float16 are measured too, on a device that has them. @default false */
  float16?: boolean;
  signal: AbortSignal;
}

/** Long enough to be past the first slow runs, short enough that nobody minds. */
const PROBE_MS = 400;
/** Most rows of the probe's matrices: more are no faster. */
const PROBE_ROWS = 2048;
/** A block's inner width as a multiple of the model's, about. */
const WIDENING = 3;
/** Operations in a row, so that what happens once per run counts for little. */
const CHAIN = 10;
const CALLS = 100;
/** Products in a row for the same reason, as long as one run takes less than this, in floating-point operations. */
const RUN_FLOPS = 2 ** 34;

/**
 * Measures this machine with kinds of operations of the engine: 0.4 seconds for each of three, four or five. Only numbers
 * travel to the device and back: its memory is measured, not the way there.
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
        // In both directions, by turns, as a weight of the base is in training.
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

/** A graph from one number to one: it is spread over `shape`, and what `build` makes of that is summed up. */
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

/** Gives `use` a file with a matrix of fewer bits: of zeros, which take no room on the disk. */
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

/** Small enough that no chain leaves the range of float32. */
const VALUE = 2 ** -10;

/** Seconds. */
async function fastestRun(
  engine: Engine,
  { graph, weights, signal }: { graph: Graph; weights: WeightFile | null; signal: AbortSignal },
): Promise<number> {
  const executable = await engine.compile(graph, weights);
  const run = () => executable.run({ x: Float32Array.of(VALUE) });
  try {
    // A GPU's driver compiles its kernels meanwhile, which may take longer than all the rest.
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
