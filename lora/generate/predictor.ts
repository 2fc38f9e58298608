import type { Executable } from '../engines/engine.ts';
import { adapterFeeds, type ModelBundle } from '../evaluate/model-bundle.ts';
import { Graph } from '../graph/graph.ts';
import { selectRows } from '../graph/passes/select-rows.ts';
import { sequenceFeeds, sequenceInputs } from '../models/sequences.ts';
import { adaptedParameters } from '../train/adapted-model.ts';
import { type ServedAdapter, servedAdapter } from './adapters.ts';
import { capacityFor } from './batch.ts';
import { type CompileDynamic, DecodeModel } from './decode-model.ts';
import { RowCache } from './row-cache.ts';

/** Predicts the token after a context. */
export interface Predictor {
  /** Returns the logits of the next token. The context has from 1 token to as many as the model has positions. */
  next(context: readonly number[]): Promise<Float32Array>;
  dispose(): Promise<void>;
}

/**
 * Returns a predictor that keeps keys and values in a cache. If the engine has no such cache, returns a predictor that
 * runs the model on the whole context for each new token.
 * @param limit maximum number of tokens of a context
 */
export function predictorFor(bundle: ModelBundle, limit: number): Predictor {
  const { compileDynamic } = bundle.engine;
  return compileDynamic === undefined
    ? new RecomputingPredictor(bundle, limit)
    : new CachingPredictor(bundle, limit, compileDynamic);
}

/** Maximum number of tokens in one run of the model. The memory for attention scores grows with this number. */
const CHUNK_TOKENS = 128;

/**
 * Keeps the keys and values of the previous context in a cache. If the next context begins with the same
 * tokens, runs the model only on the tokens after them.
 */
class CachingPredictor implements Predictor {
  readonly #decoder: DecodeModel;
  readonly #adapter: ServedAdapter | null;
  readonly #cache: RowCache;
  /** Tokens in the cache. */
  #tokens: readonly number[] = [];

  constructor({ model, weights, adapter }: ModelBundle, limit: number, compile: CompileDynamic) {
    this.#decoder = new DecodeModel({ model, weights, context: limit }, { compile });
    this.#adapter = adapter === null ? null : servedAdapter(model, adapter);
    this.#cache = new RowCache(model.config, 1, capacityFor(1));
  }

  async next(context: readonly number[]): Promise<Float32Array> {
    const common = context.findIndex((token, i) => token !== this.#tokens[i]);
    // The model runs at least on the last token, because its logits are needed.
    let start = common < 0 ? context.length - 1 : common;
    if (context.length > this.#cache.capacity) this.#cache.resize(1, capacityFor(context.length), [start]);
    for (;;) {
      const end = Math.min(context.length, start + CHUNK_TOKENS);
      const [logits] = await this.#decoder.run({
        cache: this.#cache,
        tokens: [context.slice(start, end)],
        cached: [start],
        adapters: [this.#adapter],
        wanted: [end - start - 1],
      });
      start = end;
      if (end < context.length) continue;
      this.#tokens = [...context];
      return logits!;
    }
  }

  dispose(): Promise<void> {
    return this.#decoder.dispose();
  }
}

/** Number of positions of the shortest graph. A graph with fewer positions runs faster. */
const SHORTEST_GRAPH = 32;

/**
 * Runs the model on the whole context for each new token. A graph has a fixed number of positions, so a longer graph is
 * compiled when the context no longer fits.
 */
class RecomputingPredictor implements Predictor {
  readonly #bundle: ModelBundle;
  readonly #adapter: Map<string, Float32Array>;
  readonly #limit: number;
  #length = 0;
  #executable: Executable | null = null;

  constructor(bundle: ModelBundle, limit: number) {
    this.#bundle = bundle;
    this.#limit = limit;
    this.#adapter = adapterFeeds(bundle);
  }

  async next(context: readonly number[]): Promise<Float32Array> {
    if (this.#executable === null || context.length > this.#length) await this.#grow(context.length);
    const padding = new Array<number>(this.#length - context.length).fill(0);
    const row = { ids: [...context, ...padding], segments: [...context.map(() => 1), ...padding] };
    const outputs = await this.#executable!.run({
      ...sequenceFeeds([row], this.#length),
      last: BigInt64Array.of(BigInt(context.length - 1)),
      ...Object.fromEntries(this.#adapter),
    });
    return outputs.logits!;
  }

  async dispose(): Promise<void> {
    await this.#executable?.dispose();
    this.#executable = null;
  }

  async #grow(needed: number): Promise<void> {
    await this.dispose();
    const { model, engine, weights, adapter } = this.#bundle;
    this.#length = Math.min(graphLength(needed), this.#limit);
    const graph = new Graph();
    const inputs = sequenceInputs(graph, 1, this.#length);
    const last = graph.input('last', [1], 'int64');
    const source = adaptedParameters(graph, model, adapter?.lora ?? null);
    const logits = model.architecture.forward(graph, model.config, inputs, source);
    graph.output('logits', selectRows(logits, last));
    this.#executable = await engine.compile(graph, weights);
  }
}

/**
 * Returns the length of the graph for a number of tokens: the smallest sufficient number of 32, 48, 64, 96,
 * 128, 192 … With these lengths, a fifth of the positions are padding on average. With powers of two alone, a
 * third of the positions would be padding. Compiling the additional graphs takes less time than more padding
 * would take over a few tokens.
 */
export function graphLength(tokens: number): number {
  let length = SHORTEST_GRAPH;
  while (length < tokens) length *= 2;
  const between = (length / 4) * 3;
  return length > SHORTEST_GRAPH && tokens <= between ? between : length;
}
