/** What training takes on this machine, before anything is loaded. */
import { adapterLayout, adapterSize } from '../adapter/layout.ts';
import { createEngine, type Engine, type EngineName } from '../engines/engine.ts';
import { graphCost } from '../graph/cost.ts';
import { Graph } from '../graph/graph.ts';
import { matmul, multiply } from '../graph/ops.ts';
import { elementCount } from '../graph/shapes.ts';
import type { ModelShape } from '../models/targets.ts';
import { adaptedParameters } from './adapted.ts';
import { trainingGraph } from './step.ts';
import type { TrainerSettings } from './trainer.ts';

/** Bytes of a trainer process, and where they go. */
export interface MemoryEstimate {
  /** Node.js, the engine's library and its kernels. */
  readonly runtime: number;
  /** Of the frozen model, as float32; pages of a file, which the system shares between processes. */
  readonly weights: number;
  /** Most that lives at one time of the values that a micro-batch makes. */
  readonly activations: number;
  /** Adapter, gradients and two moments, and the copies of them on their way to this process and to disk. */
  readonly adapter: number;
  readonly total: number;
}

export interface WorkEstimate {
  /** Of the matrix products of one optimiser step. */
  readonly flopsPerStep: number;
  /** Read or written by everything else in it. */
  readonly trafficPerStep: number;
  /** Operations of the engine in it. */
  readonly operationsPerStep: number;
  /** Values of the adapter. */
  readonly parameters: number;
}

/** What a trainer process holds before it has loaded anything, measured (docs/decisions/080-training.md). */
const RUNTIME_BYTES = 150 * 2 ** 20;
/** Sets of adapter values alive at one time: values, gradients, two moments, the gradients that the engine returns, and
 * three on their way between the processes. */
const ADAPTER_SETS = 8;
const FLOAT_BYTES = 4;

/** From the shapes in the model's config alone. @throws LORA_*, MODEL_SEQUENCE_TOO_LONG */
export function estimateTraining(
  model: ModelShape,
  { lora, training, checkpointing = false }: TrainerSettings,
): { memory: MemoryEstimate; work: WorkEstimate } {
  const { config, architecture } = model;
  const { batchSize, sequenceLength: length } = training;
  const batch = Math.min(training.microBatch, batchSize);
  const { graph } = trainingGraph(
    { config, architecture, batch, length },
    (graph) => adaptedParameters(graph, model, lora, { training: true }),
    { ...training, checkpointing },
  );
  const cost = graphCost(graph);
  const parameters = adapterSize(adapterLayout(model, lora));
  const parts = {
    runtime: RUNTIME_BYTES,
    weights: cost.weightBytes,
    activations: cost.activationBytes,
    adapter: ADAPTER_SETS * FLOAT_BYTES * parameters,
  };
  const runs = Math.ceil(batchSize / batch);
  return {
    memory: { ...parts, total: Object.values(parts).reduce((sum, bytes) => sum + bytes, 0) },
    work: {
      flopsPerStep: runs * cost.flops,
      trafficPerStep: runs * cost.trafficBytes,
      operationsPerStep: runs * cost.operations,
      parameters,
    },
  };
}

export interface MachineSpeed {
  /** Floating-point operations per second in a matrix product. */
  readonly flops: number;
  /** Bytes per second in an addition of two large tensors. */
  readonly bytes: number;
}

/** Long enough to be past the first slow runs, short enough that nobody minds. */
const PROBE_MS = 400;
/** Most rows of the probe's matrices: more are no faster. */
const PROBE_ROWS = 2048;
/** A block's inner width as a multiple of the model's, about. */
const WIDENING = 3;
/** Elementwise operations in a row, so that what is fed and returned counts for little. */
const CHAIN = 10;

export interface ProbeOptions {
  engine: EngineName;
  threads: number;
  /** Tokens of a micro-batch and width of the model: products of small matrices are slower. */
  tokens: number;
  width: number;
  signal: AbortSignal;
}

/** Measures this machine with two operations of the engine; nothing is loaded for it, and it takes a second. */
export async function measureSpeed(options: ProbeOptions): Promise<MachineSpeed> {
  const rows = Math.min(PROBE_ROWS, options.tokens);
  const { width } = options;
  const columns = WIDENING * width;
  const engine = await createEngine(options.engine, options);
  const product = new Graph();
  product.output('y', matmul(product.input('a', [rows, width]), product.input('b', [width, columns])));
  const chain = new Graph();
  const x = chain.input('x', [rows, columns]);
  let y = x;
  for (let i = 0; i < CHAIN; i++) y = multiply(y, x);
  chain.output('y', y);
  return {
    flops: (2 * rows * width * columns) / (await fastestRun(engine, product, options.signal)),
    bytes: (3 * 4 * CHAIN * rows * columns) / (await fastestRun(engine, chain, options.signal)),
  };
}

/** Seconds. */
async function fastestRun(engine: Engine, graph: Graph, signal: AbortSignal): Promise<number> {
  const feeds = Object.fromEntries(
    [...graph.inputs].map(([name, { shape }]) => [name, new Float32Array(elementCount(shape)).fill(1)]),
  );
  const executable = await engine.compile(graph, null);
  try {
    const started = performance.now();
    let fastest = Number.POSITIVE_INFINITY;
    for (let now = started; now - started < PROBE_MS; ) {
      signal.throwIfAborted();
      await executable.run(feeds);
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
 * How much slower than the probe's multiplications in a row everything else that is no product goes through memory:
 * softmax, transpositions, gathers. Like the two below it fits what was measured for 3M parameters on one thread and
 * 135M on two (docs/decisions/080-training.md).
 */
const SLOWNESS = 2;
/** What any operation costs, however small. */
const SECONDS_PER_OPERATION = 5e-6;
/** What a whole step attains of the speed of its operations alone. */
const EFFICIENCY = 0.85;

/** Seconds of a step on an idle machine: products at the speed of products, the rest at that of memory. */
export function secondsPerStep(work: WorkEstimate, speed: MachineSpeed): number {
  const { flopsPerStep, trafficPerStep, operationsPerStep } = work;
  const products = flopsPerStep / speed.flops;
  const others = (SLOWNESS * trafficPerStep) / speed.bytes + operationsPerStep * SECONDS_PER_OPERATION;
  return (products + others) / EFFICIENCY;
}
