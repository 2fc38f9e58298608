import type { GraphNode } from '../../graph/graph.ts';
import type { Operation } from '../../graph/operations.ts';
import type { Attribute } from './protobuf.ts';

export type Provider = 'cpu' | 'cuda' | 'webgpu';

/** Writes ONNX nodes and constants for the lowering of an operation. Strings are names of ONNX values. */
export interface Emitter {
  /** Emits an ONNX node and returns the name of its first output. The name is new unless `outputs` gives one. */
  emit(type: string, inputs: readonly string[], options?: EmitOptions): string;
  /** Returns the name of a one-dimensional int64 constant. */
  integers(values: readonly number[]): string;
  /**
   * Returns the name of a one-dimensional int64 input with `values` as its default. Such an input saves memory in
   * comparison with a constant. onnxruntime computes the results of all nodes whose inputs are constants in advance,
   * and keeps these results in memory. It does not do so for a node that depends on an input of the graph.
   */
  variable(values: readonly number[]): string;
  /**
   * Returns the name of the ONNX value for this key. Only the first call with a key calls `make`, which emits
   * the value.
   */
  once(key: string, make: () => string): string;
  /** Returns the name of a float32 scalar constant. */
  scalar(value: number): string;
  /**
   * Execution provider that will run the model. A lowering may depend on it, because some kernels differ
   * between providers.
   */
  readonly provider: Provider;
}

export interface EmitOptions {
  readonly attributes?: Readonly<Record<string, Attribute>>;
  /** Domain of the operator. @default the domain of the ONNX standard */
  readonly domain?: string;
  /**
   * Names of all outputs of the node. Needed if it has several outputs, or if its output is the result of the operation
   * that is being lowered.
   */
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
