import type { Graph } from '../graph/graph.ts';
import { engineError } from './errors.ts';
import type { Feeds } from './feeds.ts';
import { ENGINE_LIST, ENGINE_NAMES, type EngineName } from './names.ts';
import { createOnnxEngine } from './onnx/engine.ts';
import type { WeightFile } from './weights.ts';

export type { Feeds } from './feeds.ts';
export { ENGINE_NAMES, type EngineName } from './names.ts';
export type { WeightFile } from './weights.ts';

/** A graph ready to run. Not re-entrant: await one run before the next. */
export interface Executable {
  /**
   * Computes every output of the graph from a value for every input, as flat row-major arrays.
   * @throws SwarmError ENGINE_FEED for a missing, unknown, wrongly typed or wrongly sized value, ENGINE_RUN when the
   * executor fails, ENGINE_DISPOSED
   */
  run(feeds: Feeds): Promise<Record<string, Float32Array>>;
  /** Releases memory and device; further runs fail. May be called twice. */
  dispose(): Promise<void>;
}

export interface Engine {
  readonly name: EngineName;
  /**
   * Prepares a graph for the device. `weights` may be null if the graph has no weights.
   * @throws SwarmError ENGINE_WEIGHTS when a weight is missing or has another shape, ENGINE_COMPILE
   */
  compile(graph: Graph, weights: WeightFile | null): Promise<Executable>;
}

export interface EngineOptions {
  /** Threads inside one operation. TensorFlow takes its number from its own environment variables instead. */
  threads: number;
  /** Which of several devices, by the number that CUDA gives it; other engines have one. @default 0 */
  device?: number;
  /**
   * Whether products with a base of 8 bits round the activations to 8 bits too, which makes them fast.
   * @default true
   */
  roundActivations?: boolean;
}

/**
 * @throws SwarmError ENGINE_UNKNOWN for a name that is not an engine's, ENGINE_THREADS, ENGINE_UNAVAILABLE when this machine lacks what
 * the engine needs (the message says what)
 */
export async function createEngine(name: EngineName, options: EngineOptions): Promise<Engine> {
  if (!ENGINE_NAMES.includes(name)) {
    throw engineError('ENGINE_UNKNOWN', `no engine is called ${name}; there are ${ENGINE_LIST}`, { name });
  }
  if (!Number.isInteger(options.threads) || options.threads < 1) {
    throw engineError(
      'ENGINE_THREADS',
      `an engine needs a whole number of threads from 1, not ${options.threads}`,
      { threads: options.threads },
    );
  }
  if (name !== 'tfjs') return createOnnxEngine(name, options);
  // Only whoever asks for it waits for its files.
  const [{ createTfjsEngine }, { findTensorFlow }] = await Promise.all([
    import('./tfjs/engine.ts'),
    import('./tfjs/packages.ts'),
  ]);
  return createTfjsEngine(await findTensorFlow());
}
