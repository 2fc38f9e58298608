import { adapterLayout } from '../adapter/layout.ts';
import type { Engine, WeightFile } from '../engines/engine.ts';
import { type SizedValue, sizedValue } from '../engines/sized-value.ts';
import type { DynamicExecutable } from '../engines/types.ts';
import type { Graph } from '../graph/graph.ts';
import type { ParameterSource } from '../models/architecture.ts';
import { withJointProducts, withJointWeights } from '../models/joint-products.ts';
import { frozenParameters } from '../models/parameters.ts';
import type { ModelShape } from '../models/targets.ts';
import { adaptedParameters } from '../train/adapted-model.ts';
import { AdapterStack, type Modules, NO_ADAPTER, type ServedAdapter, withAdapterStack } from './adapters.ts';
import { decodeGraph } from './decode-graph.ts';
import type { RowCache } from './row-cache.ts';

/**
 * Maximum rank of the joint stack, as a multiple of the summed ranks of the adapters that a run needs. Beyond it, the
 * components of adapters that the run does not need cost more time than making a new stack.
 */
const MAX_STACK_WASTE = 1.5;

/** Compiles graphs with dynamic sizes. */
export type CompileDynamic = NonNullable<Engine['compileDynamic']>;

export interface DecodeModelOptions {
  readonly model: ModelShape;
  /** Weights of the base, with any number of base bits. */
  readonly weights: WeightFile;
  /** Maximum number of tokens of a row. */
  readonly context: number;
}

export interface DecodeModelDeps {
  readonly compile: CompileDynamic;
  /**
   * Returns the weights in float32. Adapters with a separate graph need them, because no kernel can apply such an
   * adapter to weights that are quantised in blocks. @default `weights`
   */
  readonly float32?: () => Promise<WeightFile>;
}

/** The inputs of one run of the model on new tokens of one or more rows. */
export interface DecodeRun {
  /**
   * Cache whose first rows hold the keys and values of the earlier tokens. The run adds the keys and values
   * of the new tokens.
   */
  readonly cache: RowCache;
  /** New tokens of each row: one token per row, or any number of tokens if there is only one row. */
  readonly tokens: readonly (readonly number[])[];
  /** Number of tokens of each row that are in the cache. */
  readonly cached: readonly number[];
  /** The adapter of each row. If an adapter needs a separate graph, all rows must have this adapter. */
  readonly adapters: readonly (ServedAdapter | null)[];
  /** Tokens whose logits are wanted, as indices into the concatenated `tokens` of all rows. */
  readonly wanted: readonly number[];
  /**
   * Whether to compute without rounding activations, even if the weights have fewer than 32 bits. @default
   * false
   */
  readonly exact?: boolean;
}

/**
 * Part of the key of sessions that compute with exact activations. Other sessions round activations if the
 * weights have fewer than 32 bits.
 */
const EXACT = 'exact';

/** A base with adapters, compiled for decoding. */
export class DecodeModel {
  readonly #model: ModelShape;
  readonly #weights: WeightFile;
  readonly #options: DecodeModelOptions;
  readonly #deps: DecodeModelDeps;
  readonly #sessions = new Map<string, DynamicExecutable>();
  #modules: Modules = new Map();
  /** Stacks of single adapters, by the adapters' ids. They share the memory of the adapters. */
  readonly #singles = new Map<string, AdapterStack>();
  /** Stack of the latest run with several adapters. */
  #joint: AdapterStack | null = null;

  constructor(options: DecodeModelOptions, deps: DecodeModelDeps) {
    this.#model = options.model;
    this.#weights = withJointWeights(options.model, options.weights);
    this.#options = options;
    this.#deps = deps;
  }

  /**
   * Whether runs round activations, because the weights have fewer than 32 bits. Runs with `exact` never round
   * activations.
   */
  get isRounded(): boolean {
    return this.#options.weights.blocked !== undefined;
  }

  /** Runs the model on the tokens. Returns the logits of each wanted token, [vocabulary]. */
  async run({ cache, tokens, cached, adapters, wanted, exact = false }: DecodeRun): Promise<Float32Array[]> {
    const perRow = tokens[0]!.length;
    const ids = tokens.flat();
    const positions = cached.flatMap((start) => Array.from({ length: perRow }, (_, t) => start + t));
    const values = cache.values(tokens.length);
    const { session, feeds } = await this.#sessionFor(adapters, perRow, exact && this.isRounded);
    const integers = (list: readonly number[], shape: readonly number[]) =>
      sizedValue(BigInt64Array.from(list, BigInt), shape);
    const lengths = cached.map((start) => start + perRow);
    const { logits } = await session.run(
      {
        ids: integers(ids, [ids.length]),
        positions: integers(positions, [1, ids.length]),
        lengths: integers(lengths, [lengths.length]),
        wanted: integers(wanted, [wanted.length]),
        ...values,
        ...feeds,
      },
      { ...values, logits: null },
    );
    const { vocabularySize: size } = this.#model.config;
    return wanted.map((_, i) => logits!.subarray(i * size, (i + 1) * size));
  }

  /** Releases the matrices and the graph of an adapter. */
  async forget(adapter: ServedAdapter): Promise<void> {
    this.#singles.delete(adapter.id);
    if (this.#joint?.has(adapter)) this.#joint = null;
    await this.#release(`own ${adapter.id}`);
  }

  async dispose(): Promise<void> {
    for (const key of [...this.#sessions.keys()]) await this.#release(key);
  }

  async #sessionFor(
    adapters: readonly (ServedAdapter | null)[],
    perRow: number,
    exact: boolean,
  ): Promise<{ session: DynamicExecutable; feeds: Readonly<Record<string, SizedValue>> }> {
    const used = [...new Set(adapters)].filter((adapter) => adapter !== null);
    const [first] = used;
    const { architecture, config } = this.#model;
    const baseOf = (graph: Graph) =>
      withJointProducts(graph, this.#model, frozenParameters(graph, architecture, config), this.#weights);
    if (first === undefined && this.#modules.size === 0)
      return { session: await this.#session('base', exact, baseOf), feeds: {} };
    if (first !== undefined && first.modules === null) {
      const parametersOf = (graph: Graph) => adaptedParameters(graph, this.#model, first.lora);
      const shapeOf = this.#shapes(first);
      const feeds = Array.from(first.tensors, ([name, data]) => [name, sizedValue(data, shapeOf.get(name)!)]);
      return {
        session: await this.#session(`own ${first.id}`, exact, parametersOf),
        feeds: Object.fromEntries(feeds),
      };
    }
    await this.#include(used);
    const session = await this.#session('stack', exact, (graph) =>
      withAdapterStack(graph, baseOf(graph), this.#modules),
    );
    const tokens = adapters.flatMap((adapter) => new Array<ServedAdapter | null>(perRow).fill(adapter));
    return { session, feeds: this.#stack(used).feeds(tokens) };
  }

  /** Ensures that the graph that all adapters share has branches for the modules of these adapters. */
  async #include(adapters: readonly ServedAdapter[]): Promise<void> {
    const missing = adapters
      .flatMap(({ modules }) => [...modules!])
      .filter(([name]) => !this.#modules.has(name));
    if (missing.length === 0) return;
    // Only the sizes are kept, so that a removed adapter does not stay in memory.
    const sizes = missing.map(([name, module]) => [name, { in: module.in, out: module.out }] as const);
    this.#modules = new Map([...this.#modules, ...sizes]);
    this.#singles.clear();
    this.#joint = null;
    // Releases the old shared graph and the graph of the base alone. The new shared graph also serves
    // requests without an adapter, so that there is only one packed copy of the weights.
    for (const kind of ['base', 'stack']) {
      for (const key of [kind, `${kind} ${EXACT}`]) await this.#release(key);
    }
  }

  /** Returns a stack that has these adapters. Sequences join and leave often, so the joint stack is changed rarely. */
  #stack(adapters: readonly ServedAdapter[]): AdapterStack {
    if (adapters.length > 1) {
      const rank = adapters.reduce((sum, adapter) => sum + adapter.rank, 0);
      if (this.#joint === null || this.#joint.rankWith(adapters) > MAX_STACK_WASTE * rank)
        this.#joint = new AdapterStack(this.#modules);
      this.#joint.add(adapters);
      return this.#joint;
    }
    const [adapter = NO_ADAPTER] = adapters;
    const stack = this.#singles.get(adapter.id) ?? new AdapterStack(this.#modules);
    stack.add([adapter]);
    this.#singles.set(adapter.id, stack);
    return stack;
  }

  async #session(
    kind: string,
    exact: boolean,
    parametersOf: (graph: Graph) => ParameterSource,
  ): Promise<DynamicExecutable> {
    const isOwn = kind.startsWith('own ');
    const key = exact && !isOwn ? `${kind} ${EXACT}` : kind;
    const known = this.#sessions.get(key);
    if (known !== undefined) return known;
    const { context, weights } = this.#options;
    const { compile, float32 = async () => weights } = this.#deps;
    const graph = decodeGraph(this.#model, context, parametersOf);
    const session = await compile(graph, isOwn ? await float32() : this.#weights, {
      roundActivations: !exact,
      packWeights: !isOwn,
    });
    this.#sessions.set(key, session);
    return session;
  }

  async #release(key: string): Promise<void> {
    const session = this.#sessions.get(key);
    this.#sessions.delete(key);
    await session?.dispose();
  }

  #shapes({ lora }: ServedAdapter): Map<string, readonly number[]> {
    return new Map(adapterLayout(this.#model, lora).map(({ name, shape }) => [name, shape]));
  }
}
