import type { GraphNode } from '../../graph/graph.ts';
import type { Operation } from '../../graph/operations.ts';
import type { Attribute } from './protobuf.ts';

export type Provider = 'cpu' | 'cuda' | 'webgpu';

/** What the lowering of one operation writes with; values are ONNX value names. */
export interface Emitter {
  /** Emits an ONNX node with one output, a fresh name unless `output` is given. */
  emit(type: string, inputs: readonly string[], options?: EmitOptions): string;
  /** Name of a one-dimensional int64 constant. */
  integers(values: readonly number[]): string;
  /** The same as no constant: onnxruntime does not compute in advance, and keep, what depends on it. */
  variable(values: readonly number[]): string;
  /** Name of a float32 scalar constant. */
  scalar(value: number): string;
  /** Whose kernels will run: they differ in places. */
  readonly provider: Provider;
}

export interface EmitOptions {
  readonly attributes?: Readonly<Record<string, Attribute>>;
  /** Operator domain. Default: the ONNX standard's. */
  readonly domain?: string;
  /** Names of all outputs, for nodes that have several or whose result is the operation's. */
  readonly outputs?: readonly string[];
}

export type Lowering<K extends Operation> = (
  node: GraphNode<K>,
  inputs: readonly string[],
  outputs: readonly string[],
  emitter: Emitter,
) => void;

/** Domain of onnxruntime's own operators. */
export const MICROSOFT = 'com.microsoft';
