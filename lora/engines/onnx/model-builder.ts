import type { Emitter, Provider } from './emitter.ts';
import type { OnnxInitializer, OnnxModel, OnnxNode, OnnxValue } from './protobuf.ts';

/** Builds an ONNX model node by node, with the constants that the nodes need. */
export class ModelBuilder implements OnnxModel {
  readonly nodes: OnnxNode[] = [];
  readonly initializers: OnnxInitializer[] = [];
  readonly inputs: OnnxValue[] = [];
  readonly outputs: OnnxValue[] = [];
  readonly emitter: Emitter;
  readonly #declared = new Set<string>();
  readonly #constants = new Map<string, string>();
  readonly #emitted = new Map<string, string>();
  #fresh = 0;

  constructor(provider: Provider) {
    this.emitter = {
      provider,
      emit: (type, inputs, options = {}) => {
        const outputs = options.outputs ?? [`f:${this.#fresh++}`];
        const { domain = '', attributes = {} } = options;
        this.nodes.push({ type, inputs, outputs, domain, attributes });
        return outputs[0]!;
      },
      integers: (values) => this.#constant('int64', [values.length], BigInt64Array.from(values, BigInt)),
      once: (key, make) => this.#once(key, make),
      variable: (values) => this.#variable(values),
      scalar: (value) => this.#constant('float32', [], Float32Array.of(value)),
    };
  }

  /**
   * Adds initializers, each once. With `constant: false` they become graph inputs with a default value, which are never
   * fed. The reason is that onnxruntime computes everything that depends only on constants in advance, and keeps the
   * results in memory. It computes nothing in advance that depends on an input.
   */
  declare(initializers: readonly OnnxInitializer[], { constant }: { constant: boolean }): void {
    for (const initializer of initializers) {
      const { name, dtype, shape } = initializer;
      if (this.#declared.has(name)) continue;
      this.#declared.add(name);
      this.initializers.push(initializer);
      if (!constant) this.inputs.push({ name, dtype, shape });
    }
  }

  #once(key: string, make: () => string): string {
    const name = this.#emitted.get(key) ?? make();
    this.#emitted.set(key, name);
    return name;
  }

  #variable(values: readonly number[]): string {
    const name = `v:${values.join()}`;
    const data = bytesOf(BigInt64Array.from(values, BigInt));
    this.declare([{ name, dtype: 'int64', shape: [values.length], data }], { constant: false });
    return name;
  }

  /** Returns the name of a small constant that a lowering needs. Equal constants share one initializer. */
  #constant(dtype: OnnxValue['dtype'], shape: readonly number[], data: Float32Array | BigInt64Array): string {
    const value = `${dtype}:${data.join()}`;
    const known = this.#constants.get(value);
    if (known !== undefined) return known;
    const name = `s:${this.#constants.size}`;
    this.initializers.push({ name, dtype, shape, data: bytesOf(data) });
    this.#constants.set(value, name);
    return name;
  }
}

export function bytesOf(data: Float32Array | BigInt64Array): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}
