/** Generates text, as `swarm generate` does. */
import { z } from 'zod';
import { checkOptions } from '../../common/schema-problems.ts';
import { SeededRandom } from '../data/seeded-random.ts';
import type { Executable } from '../engines/engine.ts';
import { Graph } from '../graph/graph.ts';
import { selectRows } from '../graph/passes/select-rows.ts';
import { sequenceFeeds, sequenceInputs } from '../models/sequences.ts';
import { adaptedParameters } from '../train/adapted-model.ts';
import { adapterFeeds, type ModelBundle } from './model-bundle.ts';

/** Tokens of the first graph. A graph's run time depends on its length, so graphs grow with the text. */
const SHORTEST_GRAPH = 32;

/** The prompt, and how to continue it. */
export interface GenerateOptions {
  /** Beginning of the text. */
  prompt: string;
  /** Largest number of tokens to generate. @default 100 */
  maxTokens?: number;
  /** 0: always the most likely token. @default 0 */
  temperature?: number;
  /** Nucleus sampling: choose among the most likely tokens with this total probability. @default 1 */
  topP?: number;
  /** @default 0 */
  seed?: number;
  /** Called with each new piece of text. */
  onText?: (piece: string) => void;
  /** @default never aborts */
  signal?: AbortSignal;
}

const optionsSchema = z.object({
  prompt: z.string(),
  maxTokens: z.int().min(0).optional(),
  temperature: z.number().min(0).optional(),
  topP: z.number().gt(0).max(1).optional(),
  seed: z.int().optional(),
});

/** A generated text. */
export interface Generated {
  /** The generated text, without special tokens. */
  text: string;
  ids: number[];
  /** 'end': the model ended the text; 'length': `maxTokens` were generated. */
  reason: 'end' | 'length';
}

/**
 * Continues a prompt. The tokenizer's special tokens are added before the prompt. Equal seeds give equal texts. When
 * the text has become longer than the model's context, only its last tokens stay in the context, enough to fill half of
 * it.
 *
 * @throws SwarmError USAGE, ENGINE_*; the signal's reason
 */
export async function generate(bundle: ModelBundle, options: GenerateOptions): Promise<Generated> {
  checkOptions(optionsSchema, options);
  const { model, tokenizer } = bundle;
  const { prompt, maxTokens = 100, temperature = 0, topP = 1, seed = 0, onText, signal } = options;
  const random = new SeededRandom(seed);
  const limit = model.config.maxPositions;
  let context = [...tokenizer.prefix, ...tokenizer.encode(prompt, { special: false })];
  // The model needs at least one token, even with an empty prompt and no beginning-of-text token.
  if (context.length === 0) context = [tokenizer.eosId ?? 0];
  const ids: number[] = [];
  let passed = '';
  let reason: Generated['reason'] = 'length';
  const predictor = new Predictor(bundle);
  try {
    while (ids.length < maxTokens) {
      await new Promise(setImmediate);
      signal?.throwIfAborted();
      if (context.length > limit) context = [...tokenizer.prefix, ...context.slice(-Math.ceil(limit / 2))];
      const logits = await predictor.next(context);
      const id = temperature > 0 ? sample(logits, { temperature, topP }, random) : mostLikely(logits);
      if (id === tokenizer.eosId) {
        reason = 'end';
        break;
      }
      ids.push(id);
      context.push(id);
      const text = tokenizer.decode(ids);
      // If the text ends within a character of several bytes, the new piece waits for the rest of the character.
      if (onText !== undefined && !text.endsWith('\ufffd')) {
        onText(text.slice(passed.length));
        passed = text;
      }
    }
  } finally {
    await predictor.dispose();
  }
  const text = tokenizer.decode(ids);
  if (text.length > passed.length) onText?.(text.slice(passed.length));
  return { text, ids, reason };
}

/** Predicts the token after a context, with graphs of growing length. */
class Predictor {
  readonly #bundle: ModelBundle;
  readonly #adapter: Map<string, Float32Array>;
  #length = 0;
  #executable: Executable | null = null;

  constructor(bundle: ModelBundle) {
    this.#bundle = bundle;
    this.#adapter = adapterFeeds(bundle);
  }

  /** Returns the logits of the next token. @param context from 1 token to as many as the model has positions */
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
    this.#length = Math.min(graphLength(needed), model.config.maxPositions);
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
 * Returns the length of the graph for a number of tokens: the smallest sufficient number of 32, 48, 64, 96, 128, 192 …
 * With these lengths, a fifth of the positions are padding on average. With powers of two alone, it would be a third.
 * Compiling the additional graphs takes less time than more padding would take over a few tokens.
 */
export function graphLength(tokens: number): number {
  let length = SHORTEST_GRAPH;
  while (length < tokens) length *= 2;
  const between = (length / 4) * 3;
  return length > SHORTEST_GRAPH && tokens <= between ? between : length;
}

function mostLikely(logits: Float32Array): number {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i]! > logits[best]!) best = i;
  return best;
}

/** Samples a token from softmax(logits / temperature), with nucleus sampling (Holtzman et al., arXiv 1904.09751). */
export function sample(
  logits: Float32Array,
  { temperature, topP }: { temperature: number; topP: number },
  random: SeededRandom,
): number {
  const greatest = logits[mostLikely(logits)]!;
  const weights = Float64Array.from(logits, (logit) => Math.exp((logit - greatest) / temperature));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const order = Array.from(weights.keys()).sort((a, b) => weights[b]! - weights[a]! || a - b);
  let nucleus = 0;
  let kept = 0;
  while (kept < order.length && (kept === 0 || nucleus < topP * total)) nucleus += weights[order[kept++]!]!;
  let left = random.uniform() * nucleus;
  for (const id of order.slice(0, kept)) {
    left -= weights[id]!;
    if (left < 0) return id;
  }
  return order[kept - 1]!;
}
