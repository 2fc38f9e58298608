/** The work of the scheduler: sequences to continue, and sequences to score. */
import type { CommonConfig } from '../models/config.ts';
import type { ServedAdapter } from './adapters.ts';
import type { RowCache } from './row-cache.ts';
import { logSumExp, type Sampler, topTokens } from './sampling.ts';
import type { Sampling, ScoredToken, TokenLogprob } from './types.ts';

/** A sequence that the generator process is asked to continue. */
export interface SequenceRequest {
  readonly tokens: readonly number[];
  readonly adapter: ServedAdapter | null;
  readonly sampling: Sampling;
  readonly maxTokens: number;
  readonly endTokens: readonly number[];
  /** Number of most likely tokens to report; null for no log-probabilities at all. */
  readonly logprobs: number | null;
  readonly client: string;
}

/** A sequence to score. */
export interface ScoredSequence {
  readonly tokens: readonly number[];
  readonly adapter: ServedAdapter | null;
  readonly top: number;
  readonly from: number;
  readonly client: string;
}

/** A generated token. If the request asks for no log-probabilities, `logprob` is null and `top` is empty. */
export interface ChosenToken {
  readonly id: number;
  readonly logprob: number | null;
  readonly top: readonly TokenLogprob[];
  /** Number of tokens of the prompt that were found in the prefix cache. */
  readonly cachedTokens: number;
}

/** Reason why a sequence ended: at an end token, or because it is as long as allowed. */
export type EndReason = 'end' | 'length';

/**
 * A sequence in the scheduler. It is either continued (`generation`) or scored (`scored`). In both cases, its prompt is
 * computed first.
 */
export interface Work {
  readonly client: string;
  readonly adapter: ServedAdapter | null;
  /** All tokens so far. The model has not yet been run on the last generated token. */
  readonly tokens: number[];
  readonly signal: AbortSignal;
  readonly end: (error: unknown) => void;
  readonly generation: Continued | null;
  readonly scored: { readonly from: number; readonly top: number; readonly found: ScoredToken[] } | null;
}

export interface Continued {
  readonly request: SequenceRequest;
  readonly sampler: Sampler;
  readonly onToken: (token: ChosenToken) => void;
  generated: number;
  cachedTokens: number | null;
  readonly finish: (reason: EndReason) => void;
}

/** A prompt that is being computed. */
export interface Prefill {
  readonly work: Work;
  readonly cache: RowCache;
  /** Number of prompt tokens that have been computed. */
  done: number;
}

export interface SchedulerOptions {
  readonly config: CommonConfig;
  /** Maximum number of tokens of a sequence. */
  readonly context: number;
  /** Maximum number of sequences that are continued at once. */
  readonly rows: number;
  /** Maximum number of sequences that wait. */
  readonly waiting: number;
  /** Bytes for the keys and values of running sequences, and for the prefix cache. */
  readonly cacheBytes: number;
}

export function workOf({
  client,
  adapter,
  tokens,
}: Pick<SequenceRequest, 'client' | 'adapter' | 'tokens'>): Pick<Work, 'client' | 'adapter' | 'tokens'> {
  return { client, adapter, tokens: [...tokens] };
}

/**
 * Returns the prefix-cache key of an adapter. Computations with exact and with rounded activations give different
 * cached values, so they use different keys.
 */
export function prefixKey(adapter: string, exact: boolean): string {
  return exact ? `${adapter} exact` : adapter;
}

export function recordScore({ tokens, scored }: Work, position: number, logits: Float32Array): void {
  const id = tokens[position];
  if (id === undefined) return;
  const normaliser = logSumExp(logits);
  const top = topTokens(logits, scored!.top, normaliser);
  scored!.found.push({ id, logprob: logits[id]! - normaliser, top });
}
