import { createHash } from 'node:crypto';
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

/** An adapter in memory. */
export interface ServedAdapter {
  /** Digest of the adapter's settings and values. */
  readonly id: string;
  readonly lora: LoraConfig;
  /** Values of the adapter's tensors, by the tensors' names. */
  readonly tensors: ReadonlyMap<string, Float32Array>;
  /**
   * Modules of an adapter that has only LoRA matrices. All such adapters share one graph. Null if the adapter has DoRA,
   * trained biases, saved modules or an adapted embedding, because such an adapter needs a separate graph.
   */
  readonly modules: readonly AdaptedModule[] | null;
  /** Maximum LoRA rank of all modules. */
  readonly rank: number;
}

/** Prepares an adapter for serving. @param tensors in layout order */
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
  return {
    id: hash.digest('hex'),
    lora,
    tensors: new Map(layout.map(({ name }, i) => [name, tensors[i]!])),
    modules: isPlain ? modules : null,
    rank: Math.max(...modules.map(({ rank }) => rank)),
  };
}

const stackNames = (module: string) => ({ a: `A:${module}`, b: `B:${module}` });
const MASK = 'adapters';

/**
 * Returns a parameter source with the branches of several adapters: y = base(x) + ((x Aᵀ) ⊙ mask) B. A [rank, in] and B
 * [rank, out] hold the matrices of all adapters one after the other, so `rank` is the sum of their ranks. B is already
 * multiplied by each adapter's scale. The mask [tokens, rank] is 1 where a component belongs to the token's adapter,
 * else 0. One run can therefore use a different adapter in every row.
 */
export function withAdapterStack(
  graph: Graph,
  base: ParameterSource,
  modules: ReadonlyMap<string, { readonly in: number; readonly out: number }>,
): ParameterSource {
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

/** The matrices of some adapters as feeds for a graph with `withAdapterStack`. */
export class AdapterStack {
  readonly #places = new Map<string, { start: number; end: number }>();
  readonly #rank: number;
  readonly #matrices: Record<string, SizedValue> = {};

  /** @param modules modules of the graph; the branch of an adapter is zero in modules that the adapter lacks */
  constructor(
    adapters: readonly ServedAdapter[],
    modules: ReadonlyMap<string, { readonly in: number; readonly out: number }>,
  ) {
    let rank = 0;
    for (const adapter of adapters) {
      this.#places.set(adapter.id, { start: rank, end: rank + adapter.rank });
      rank += adapter.rank;
    }
    // A matrix product needs at least one component. Without an adapter, this component is zero.
    rank = Math.max(1, rank);
    this.#rank = rank;
    for (const [name, { in: width, out }] of modules) {
      const a = new Float32Array(rank * width);
      const b = new Float32Array(rank * out);
      for (const adapter of adapters) {
        const module = adapter.modules!.find((candidate) => candidate.name === name);
        if (module === undefined) continue;
        const { start } = this.#places.get(adapter.id)!;
        a.set(adapter.tensors.get(matrixName(module, 'A'))!, start * width);
        writeTransposed(adapter.tensors.get(matrixName(module, 'B'))!, module, b, start);
      }
      const names = stackNames(name);
      this.#matrices[names.a] = sizedValue(a, [rank, width]);
      this.#matrices[names.b] = sizedValue(b, [rank, out]);
    }
  }

  /** @param tokens the adapter of each token; null for the base alone */
  feeds(tokens: readonly (ServedAdapter | null)[]): Readonly<Record<string, SizedValue>> {
    const mask = new Float32Array(tokens.length * this.#rank);
    for (const [token, adapter] of tokens.entries()) {
      if (adapter === null) continue;
      const { start, end } = this.#places.get(adapter.id)!;
      mask.fill(1, token * this.#rank + start, token * this.#rank + end);
    }
    return { ...this.#matrices, [MASK]: sizedValue(mask, [tokens.length, this.#rank]) };
  }
}

/** Writes scale · Bᵀ to a matrix, from row `start` on. @param b [out, rank] */
function writeTransposed(
  b: Float32Array,
  { out, rank, scale }: AdaptedModule,
  to: Float32Array,
  start: number,
): void {
  for (let r = 0; r < rank; r++) {
    for (let o = 0; o < out; o++) to[(start + r) * out + o] = scale * b[o * rank + r]!;
  }
}
