import type { Graph } from '../graph/graph.ts';
import type { Feeds } from './feeds.ts';
import type { EngineName } from './names.ts';
import type { SizedValue } from './sized-value.ts';
import type { WeightFile } from './weights.ts';

/** A compiled graph. It is not re-entrant, so await each run before you start the next. */
export interface Executable {
  /**
   * Computes every output of the graph from a value for every input, as flat row-major arrays.
   * @throws SwarmError ENGINE_FEED for a missing, unknown, wrongly typed or wrongly sized value, ENGINE_RUN when the
   * engine fails, ENGINE_DISPOSED, ENGINE_EXHAUSTED when only a new process can compute more
   */
  run(feeds: Feeds): Promise<Record<string, Float32Array>>;
  /** Releases the memory and the device. Later runs fail. May be called twice. */
  dispose(): Promise<void>;
}

/**
 * A compiled graph whose sizes are known only when it runs (lora/graph/dynamic.ts). The caller can choose the memory
 * to which a result is written, and may choose the memory of an input. The graph must not run twice at the same time.
 */
export interface DynamicExecutable {
  /**
   * Computes all outputs.
   * @param into for each output, the value whose memory receives it, or null to allocate new memory
   * @throws SwarmError ENGINE_RUN, ENGINE_DISPOSED
   */
  run(
    feeds: Readonly<Record<string, SizedValue>>,
    into: Readonly<Record<string, SizedValue | null>>,
  ): Promise<Record<string, Float32Array>>;
  /** Releases the memory. Later runs fail. May be called twice. */
  dispose(): Promise<void>;
}

export interface Engine {
  readonly name: EngineName;
  /** Whether the engine computes on the processor. Set only by tfjs, which may use a processor or a GPU. */
  readonly onProcessor?: boolean;
  /**
   * Compiles a graph for the device. `weights` may be null if the graph has no weights.
   * @throws SwarmError ENGINE_WEIGHTS when a weight is missing or has another shape, ENGINE_COMPILE
   */
  compile(graph: Graph, weights: WeightFile | null): Promise<Executable>;
  /** Compiles a graph with dynamic sizes; undefined if the engine cannot do this. @throws the errors of `compile` */
  compileDynamic?(
    graph: Graph,
    weights: WeightFile | null,
    options?: DynamicOptions,
  ): Promise<DynamicExecutable>;
}

export interface DynamicOptions extends Pick<EngineOptions, 'roundActivations'> {
  /**
   * Whether to copy the weights into the order that the kernels need. Packed weights make products of single tokens
   * faster, and the copy takes as much memory as the weights.
   * @default false
   */
  packWeights?: boolean;
}

export interface EngineOptions {
  /** Number of threads that compute one operation together. */
  threads: number;
  /** Index of the device in CUDA's numbering; other engines have only one device. @default 0 */
  device?: number;
  /**
   * Whether matrix products with an 8-bit base round the activations to 8 bits too. Rounding makes these products fast.
   * @default true
   */
  roundActivations?: boolean;
}
