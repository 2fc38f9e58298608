import { createHash } from 'node:crypto';
import { adapterError } from '../adapter/errors.ts';
import { adapterLayout } from '../adapter/layout.ts';
import type { LoraConfig } from '../adapter/lora-config.ts';
import { adapterPlan } from '../adapter/plan.ts';
import { type SizedValue, sizedValue } from '../engines/sized-value.ts';
import { DYNAMIC } from '../graph/dynamic.ts';
import type { Graph, Tensor } from '../graph/graph.ts';
import { add, matmul, multiply } from '../graph/ops.ts';
import type { ParameterSource } from '../models/architecture.ts';
import { type AdaptedModule, matrixName } from '../models/lora.ts';
import type { ModelShape } from '../models/targets.ts';

/** The LoRA matrices of one module, prepared for a graph with `withAdapterStack`. */
export interface ServedModule {
  readonly in: number;
  readonly out: number;
  /** A [rank, in], where `rank` is the rank of the adapter. If the module has a lower rank, the last rows are zero. */
  readonly a: Float32Array;
  /** scale · Bᵀ [rank, out], padded with rows of zeros to the same rank. */
  readonly b: Float32Array;
}

/** An adapter in memory. */
export interface ServedAdapter {
  /** Digest of the adapter's settings and values. */
  readonly id: string;
  readonly lora: LoraConfig;
  /**
   * Modules of an adapter that has only LoRA matrices, by name. All such adapters share one graph. Null if the
   * adapter has DoRA, trained biases, saved modules or an adapted embedding, because such an adapter needs a separate
   * graph.
   */
  readonly modules: ReadonlyMap<string, ServedModule> | null;
  /** Values of an adapter that needs a separate graph, by the names of its tensors; else empty. */
  readonly tensors: ReadonlyMap<string, Float32Array>;
  /** Maximum LoRA rank of all modules. */
  readonly rank: number;
}

/**
 * Prepares an adapter for serving.
 * @param tensors in layout order
 * @throws SwarmError ADAPTER_NOT_FINITE if a value is so large that it could change the texts of other adapters
 */
export function servedAdapter(
  model: ModelShape,
  { lora, tensors }: { readonly lora: LoraConfig; readonly tensors: readonly Float32Array[] },
): ServedAdapter {
  const layout = adapterLayout(model, lora);
  const { modules, copies } = adapterPlan(model, lora);
  const hash = createHash('sha256').update(JSON.stringify(lora));
  for (const [i, { name, shape }] of layout.entries()) {
    hash.update(JSON.stringify([name, shape]));
    const { buffer, byteOffset, byteLength } = tensors[i]!;
    hash.update(new Uint8Array(buffer, byteOffset, byteLength));
  }
  const isPlain = !lora.useDora && copies.length === 0 && !modules.some(({ embedding }) => embedding);
  const rank = Math.max(...modules.map((module) => module.rank));
  const values = new Map(layout.map(({ name }, i) => [name, tensors[i]!]));
  const served = (module: AdaptedModule) => servedModule(module, values, rank);
  return {
    id: hash.digest('hex'),
    lora,
    modules: isPlain ? new Map(modules.map((module) => [module.name, served(module)])) : null,
    tensors: isPlain ? new Map() : values,
    rank,
  };
}

function servedModule(
  module: AdaptedModule,
  tensors: ReadonlyMap<string, Float32Array>,
  rank: number,
): ServedModule {
  const { in: width, out } = module;
  const a = withLength(tensors.get(matrixName(module, 'A'))!, rank * width);
  const b = new Float32Array(rank * out);
  const values = tensors.get(matrixName(module, 'B'))!;
  for (let r = 0; r < module.rank; r++) {
    for (let o = 0; o < out; o++) b[r * out + o] = module.scale * values[o * module.rank + r]!;
  }
  checkStacked(a, matrixName(module, 'A'));
  checkStacked(b, `scale · ${matrixName(module, 'B')}`);
  return { in: width, out, a, b };
}

/**
 * Maximum size of a value in a stack. The mask multiplies the components of other adapters by zero, and infinity times zero
 * is not a number. With this limit, no component becomes infinite, so an adapter cannot change the texts of others.
 */
const MAX_STACKED = 1e20;

/** @throws SwarmError ADAPTER_NOT_FINITE if a value is too large for a stack, or not a number */
function checkStacked(values: Float32Array, name: string): void {
  const index = values.findIndex((value) => !(Math.abs(value) <= MAX_STACKED));
  if (index === -1) return;
  throw adapterError(
    'ADAPTER_NOT_FINITE',
    `${name} has the value ${values[index]} at index ${index}, but at most ${MAX_STACKED} can be computed`,
    { tensor: name, index, found: String(values[index]) },
  );
}

/** Returns the array, or a longer copy that ends with zeros. */
function withLength(array: Float32Array, length: number): Float32Array {
  if (array.length >= length) return array;
  const longer = new Float32Array(length);
  longer.set(array);
  return longer;
}

/** Modules of a graph, by name, with their numbers of inputs and outputs. */
export type Modules = ReadonlyMap<string, { readonly in: number; readonly out: number }>;

const stackNames = (module: string) => ({ a: `A:${module}`, b: `B:${module}` });
const MASK = 'adapters';

/**
 * Returns a parameter source with the branches of several adapters: y = base(x) + ((x Aᵀ) ⊙ mask) B. A [rank, in] and B
 * [rank, out] hold the matrices of all adapters one after the other, so `rank` is the sum of their ranks. B is already
 * multiplied by each adapter's scale. The mask [tokens, rank] is 1 where a component belongs to the token's adapter,
 * else 0. One run can therefore use a different adapter in every row.
 */
export function withAdapterStack(graph: Graph, base: ParameterSource, modules: Modules): ParameterSource {
  const mask = graph.input(MASK, [DYNAMIC.tokens, DYNAMIC.rank]);
  return {
    ...base,
    linear(name, x: Tensor) {
      const plain = base.linear(name, x);
      const module = modules.get(name);
      if (module === undefined) return plain;
      const names = stackNames(name);
      const a = graph.input(names.a, [DYNAMIC.rank, module.in]);
      const b = graph.input(names.b, [DYNAMIC.rank, module.out]);
      return add(plain, matmul(multiply(matmul(x, a, { transposeB: true }), mask), b));
    },
  };
}

/** The parts of an adapter that a stack needs. */
type StackedAdapter = Pick<ServedAdapter, 'id' | 'modules' | 'rank'>;

/**
 * The adapter that a stack holds for runs of the base alone. Its rank is 1, because a matrix product needs at least one
 * component. This component is zero in all modules.
 */
export const NO_ADAPTER: StackedAdapter = { id: '', modules: new Map(), rank: 1 };

/**
 * The matrices of one or more adapters as feeds for a graph with `withAdapterStack`. A stack of one adapter uses the
 * memory of this adapter. Adapters can be added, but not removed. If no token uses an adapter of the stack, its
 * components cost time, but change no result.
 */
export class AdapterStack {
  readonly #modules: Modules;
  /** The first component of each adapter, by the adapter's id. */
  readonly #starts = new Map<string, number>();
  /** The matrices. An array can be longer than its matrix, so that there is space for further adapters. */
  readonly #arrays = new Map<string, Float32Array>();
  #rank = 0;
  #matrices: Readonly<Record<string, SizedValue>> = {};

  /** @param modules modules of the graph; the branch of an adapter is zero in modules that the adapter lacks */
  constructor(modules: Modules) {
    this.#modules = modules;
  }

  has({ id }: StackedAdapter): boolean {
    return this.#starts.has(id);
  }

  /** Returns the rank that the stack would have with these adapters. */
  rankWith(adapters: readonly StackedAdapter[]): number {
    const missing = adapters.filter((adapter) => !this.has(adapter));
    return missing.reduce((sum, { rank }) => sum + rank, this.#rank);
  }

  /** Adds the adapters that are not in the stack yet. */
  add(adapters: readonly StackedAdapter[]): void {
    const missing = adapters.filter((adapter) => !this.has(adapter));
    if (missing.length === 0) return;
    for (const { id, modules, rank } of missing) {
      for (const [name, { in: width, out }] of this.#modules) {
        const names = stackNames(name);
        const module = modules!.get(name);
        this.#append(names.a, module?.a ?? new Float32Array(rank * width), this.#rank * width);
        this.#append(names.b, module?.b ?? new Float32Array(rank * out), this.#rank * out);
      }
      this.#starts.set(id, this.#rank);
      this.#rank += rank;
    }
    const value = (name: string, width: number) =>
      sizedValue(this.#arrays.get(name)!.subarray(0, this.#rank * width), [this.#rank, width]);
    this.#matrices = Object.fromEntries(
      [...this.#modules].flatMap(([name, { in: width, out }]) => {
        const { a, b } = stackNames(name);
        return [
          [a, value(a, width)],
          [b, value(b, out)],
        ];
      }),
    );
  }

  /** @param tokens the adapter of each token; null for the base alone */
  feeds(tokens: readonly (StackedAdapter | null)[]): Readonly<Record<string, SizedValue>> {
    const mask = new Float32Array(tokens.length * this.#rank);
    for (const [token, adapter] of tokens.entries()) {
      if (adapter === null) continue;
      const start = token * this.#rank + this.#starts.get(adapter.id)!;
      mask.fill(1, start, start + adapter.rank);
    }
    return { ...this.#matrices, [MASK]: sizedValue(mask, [tokens.length, this.#rank]) };
  }

  /** Writes the rows of one more adapter behind the first `used` values of an array. */
  #append(name: string, rows: Float32Array, used: number): void {
    const array = this.#arrays.get(name);
    if (array === undefined) {
      this.#arrays.set(name, rows);
      return;
    }
    // Doubling the length keeps the number of copies small when adapters join one after the other.
    const needed = used + rows.length;
    const larger = array.length >= needed ? array : withLength(array, Math.max(needed, 2 * array.length));
    larger.set(rows, used);
    this.#arrays.set(name, larger);
  }
}
