import { SwarmError } from '../../protocol/errors.ts';
import type { Graph } from '../graph/graph.ts';
import type { Shape } from '../graph/shapes.ts';
import { createOnnxEngine } from './onnx/engine.ts';

/** Base weights on disk: raw little-endian float32, every entry at an offset that is a multiple of 4,096 bytes. */
export interface WeightFile {
  readonly path: string;
  /** Name → place in the file; offset and length in bytes. */
  readonly entries: ReadonlyMap<string, { offset: number; length: number; shape: Shape }>;
}

export type Feeds = Readonly<Record<string, Float32Array | BigInt64Array>>;

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

export const ENGINE_NAMES = ['onnx-cpu', 'onnx-webgpu'] as const;
export type EngineName = (typeof ENGINE_NAMES)[number];

export interface EngineOptions {
  /** Threads inside one operation. */
  threads: number;
}

/**
 * @throws SwarmError ENGINE_UNKNOWN for a name that is not an engine's, ENGINE_THREADS, ENGINE_UNAVAILABLE when this machine lacks what
 * the engine needs (the message says what)
 */
export async function createEngine(name: EngineName, options: EngineOptions): Promise<Engine> {
  if (!ENGINE_NAMES.includes(name)) {
    throw new SwarmError(
      'ENGINE_UNKNOWN',
      `no engine is called ${name}; there are ${ENGINE_NAMES.join(', ')}`,
      { name },
    );
  }
  return createOnnxEngine(name, options);
}
