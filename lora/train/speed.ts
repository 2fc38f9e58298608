/** How fast an engine is on this machine, by single operations: nothing of a model is loaded for it. */
import type { Engine } from '../engines/engine.ts';
import { Graph, type Tensor } from '../graph/graph.ts';
import { add, broadcastTo, matmul, multiply, type ProductOptions, reduceSum } from '../graph/ops.ts';

export interface MachineSpeed {
  /** Floating-point operations per second in a matrix product. */
  readonly flops: number;
  /** The same with operands in float16; none where the device does not have it. */
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
 * Measures this machine with three kinds of operations of the engine, in about a second, or four. Only numbers travel to the
 * device and back: its memory is measured, not the way there.
 */
export async function measureSpeed(
  engine: Engine,
  { tokens, width, float16 = false, signal }: SpeedOptions,
): Promise<MachineSpeed> {
  const rows = Math.min(PROBE_ROWS, tokens);
  const columns = WIDENING * width;

  const flops = 2 * rows * width * columns;
  const products = 2 * Math.max(1, Math.min(CHAIN, Math.floor(RUN_FLOPS / flops / 2)));
  const product = (options: ProductOptions) =>
    probeGraph([rows, width], (x, filled) => {
      const wide = filled([width, columns]);
      const narrow = filled([columns, width]);
      let y = x;
      for (let i = 0; i < products; i += 2) y = matmul(matmul(y, wide, options), narrow, options);
      return y;
    });
  const productSpeed = async (options: ProductOptions) =>
    (products * flops) / (await fastestRun(engine, product(options), signal));
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
  return {
    flops: await productSpeed({}),
    ...(float16 && { float16Flops: await productSpeed({ float16 }) }),
    bytes: (3 * 4 * CHAIN * rows * columns) / (await fastestRun(engine, chain, signal)),
    secondsPerOperation: (await fastestRun(engine, calls, signal)) / CALLS,
  };
}

/** A graph from one number to one: it is spread over `shape`, and what `build` makes of that is summed up. */
function probeGraph(
  shape: readonly number[],
  build: (x: Tensor, filled: (shape: readonly number[]) => Tensor) => Tensor,
): Graph {
  const graph = new Graph();
  const x = graph.input('x', [1]);
  const filled = (of: readonly number[]) => broadcastTo(x, of);
  graph.output('y', reduceSum(build(filled(shape), filled), null, false));
  return graph;
}

/** Small enough that no chain leaves the range of float32. */
const VALUE = 2 ** -10;

/** Seconds. */
async function fastestRun(engine: Engine, graph: Graph, signal: AbortSignal): Promise<number> {
  const executable = await engine.compile(graph, null);
  try {
    const started = performance.now();
    let fastest = Number.POSITIVE_INFINITY;
    for (let now = started; now - started < PROBE_MS; ) {
      signal.throwIfAborted();
      await executable.run({ x: Float32Array.of(VALUE) });
      const before = now;
      now = performance.now();
      fastest = Math.min(fastest, now - before);
    }
    return fastest / 1000;
  } finally {
    await executable.dispose();
  }
}
