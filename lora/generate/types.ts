import type { TextTokenizer } from '../data/tokenizer.ts';
import type { BaseModel } from '../models/base/base-model.ts';

/** Settings that determine how the next token is chosen from the logits. */
export interface Sampling {
  /** Divides the logits before the softmax. With 0, always chooses the most likely token. @default 0 */
  readonly temperature?: number;
  /** Nucleus sampling: chooses among the most likely tokens with this total probability, in (0, 1]. @default 1 */
  readonly topP?: number;
  /** Chooses among this many of the most likely tokens. With 0, there is no limit. @default 0 */
  readonly topK?: number;
  /** Leaves out tokens less likely than this share of the most likely token's probability, in [0, 1]. @default 0 */
  readonly minP?: number;
  /**
   * Lowers the probability of tokens that are in the prompt or have been generated: their positive logits are
   * divided by this number, and their negative logits are multiplied by it (Keskar et al. 2019, arXiv
   * 1909.05858), as in transformers. Greater than 0. @default 1, which changes nothing
   */
  readonly repetitionPenalty?: number;
  /** A whole number. Requests with equal tokens, sampling and seed get equal tokens. @default 0 */
  readonly seed?: number;
}

/** One request to continue a sequence of tokens. */
export interface GenerateRequest {
  /** Tokens to continue, at least one, with special tokens such as the beginning-of-text token already in them. */
  readonly tokens: readonly number[];
  /** Id of the adapter to use, as `Generator.addAdapter` returned it. @default the base alone */
  readonly adapter?: string | undefined;
  readonly sampling?: Sampling;
  /** Maximum number of tokens to generate. @default as many as fit into the context */
  readonly maxTokens?: number;
  /**
   * Stop strings, which end the generation. The result ends before the first stop string. Text that may be
   * the beginning of a stop string is held back until later tokens complete the stop string or rule it out.
   * At most 16 stop strings of at most 1,024 characters. @default none
   */
  readonly stop?: readonly string[];
  /** Token ids that end the generation. @default `Generator.endTokens` */
  readonly endTokens?: readonly number[];
  /** Keeps special tokens in the text. @default false */
  readonly special?: boolean;
  /**
   * Number of most likely tokens to report with each token, 0 to 20. With 0, only the chosen token's log-probability is
   * reported. Log-probabilities are computed before temperature, repetition penalty, `topK`, `topP` and `minP` apply.
   * @default no log-probabilities
   */
  readonly logprobs?: number;
  /** Name of the client. Waiting requests form one queue per client, and the queues take turns. @default '' */
  readonly client?: string;
  /**
   * If the signal aborts, the request stops computing, and its stream throws the signal's reason.
   * @default never aborts
   */
  readonly signal?: AbortSignal | undefined;
}

/** A token with its natural log-probability. */
export interface TokenLogprob {
  readonly id: number;
  readonly logprob: number;
}

/** One generated token. */
export interface GeneratedToken {
  readonly id: number;
  /**
   * The text that this token completes. It may be empty, because a character may need several tokens, and
   * because a stop string may begin here. It never ends within a character. The texts of all tokens make up
   * `GenerationResult.text`.
   */
  readonly text: string;
  /** Log-probability of the token; null if the request does not set `logprobs`. */
  readonly logprob: number | null;
  /** The most likely tokens, most likely first. Empty unless the request asks for them. */
  readonly top: readonly TokenLogprob[];
}

/** The end of a generation. */
export interface GenerationResult {
  /** Generated text, without the stop string. */
  readonly text: string;
  /** Generated tokens. If `reason` is 'end', the last token is the end token, which has no text. */
  readonly ids: readonly number[];
  /**
   * 'end': an end token was generated. 'stop': a stop string was generated. 'length': `maxTokens` or the context is
   * used up.
   */
  readonly reason: 'end' | 'stop' | 'length';
  readonly promptTokens: number;
  /** Number of prompt tokens whose keys and values came from the prefix cache. */
  readonly cachedTokens: number;
}

/** A running request. Iterate over it once to get the tokens as they are generated. */
export interface Generation extends AsyncIterable<GeneratedToken> {
  /**
   * Settles when the generation has ended. A caller that needs only the result can await it without iterating. Leaving
   * an iteration early cancels the request.
   */
  readonly result: Promise<GenerationResult>;
}

/** Log-probability of one token of a given sequence. */
export interface ScoredToken {
  readonly id: number;
  /** Natural log-probability of the token after all tokens before it; null for the first token. */
  readonly logprob: number | null;
  /**
   * The `top` most likely tokens at this position, most likely first; null for the first token. The scored token is the
   * most likely one if and only if its `logprob` and `top[0].logprob` are the same number.
   */
  readonly top: readonly TokenLogprob[] | null;
}

/** A sequence to score. */
export interface ScoreRequest {
  /** Tokens of the sequence: at least one, at most `Generator.context`. */
  readonly tokens: readonly number[];
  /** @default the base alone */
  readonly adapter?: string | undefined;
  /** Number of most likely tokens to report for each position, 0 to 20. @default 0 */
  readonly top?: number;
  /** Position of the first token to score. Scores of earlier tokens are null. @default 1 */
  readonly from?: number;
  /** @default '' */
  readonly client?: string;
  /** @default never aborts */
  readonly signal?: AbortSignal | undefined;
}

/** An adapter that a generator holds. */
export interface LoadedAdapter {
  /** Id by which requests name the adapter: the digest of its settings and tensors, in hex. */
  readonly id: string;
}

/** State of a generator, for health pages and metrics. */
export interface GeneratorStatus {
  /** Number of requests that are being computed. */
  readonly running: number;
  /** Number of requests that wait. */
  readonly waiting: number;
  /** Bytes of the key-value caches of running requests. */
  readonly cacheBytes: number;
  /** Bytes of the prefix cache. */
  readonly prefixBytes: number;
  /** Resident memory of the process, in bytes. */
  readonly memoryBytes: number;
  /** Ids of the loaded adapters. */
  readonly adapters: readonly string[];
}

/**
 * A base in memory, with any number of adapters. It continues the texts of many requests at once, in a separate
 * process.
 */
export interface Generator {
  readonly model: BaseModel;
  readonly tokenizer: TextTokenizer;
  /** Maximum number of tokens of a sequence: prompt and generated tokens together. */
  readonly context: number;
  /**
   * Tokens that end a generation: the tokenizer's end token, and the end tokens in the model's generation_config.json.
   */
  readonly endTokens: readonly number[];
  /**
   * Submits a request for the continuation of a sequence, and returns at once. The request waits in a queue while the
   * generator computes its maximum number of sequences.
   *
   * The stream and `result` throw these errors: USAGE for a wrong option, GENERATE_TOO_LONG if the tokens leave no
   * place in the context, GENERATE_BUSY if too many requests wait, GENERATE_ADAPTER for an unknown adapter,
   * GENERATOR_DIED, GENERATOR_CLOSED, ENGINE_*; the signal's reason.
   */
  submit(request: GenerateRequest): Generation;
  /**
   * Returns the log-probability of each token of a sequence. With an 8-bit or 4-bit base, weights are rounded as in
   * generation, but activations are not. The result therefore does not depend on how the computation of the sequence is
   * divided into runs.
   * @throws SwarmError as `submit` does
   */
  score(request: ScoreRequest): Promise<ScoredToken[]>;
  /**
   * Loads an adapter from a PEFT folder; other adapters stay loaded. If the adapter is loaded already, returns at once.
   * @throws SwarmError ADAPTER_*, LORA_*; the signal's reason
   */
  addAdapter(folder: string, options?: { signal?: AbortSignal }): Promise<LoadedAdapter>;
  /** Releases an adapter as soon as no request uses it. New requests can no longer name it. */
  removeAdapter(id: string): Promise<void>;
  /** Returns the numbers of requests, the sizes of the caches, and the loaded adapters. */
  status(): Promise<GeneratorStatus>;
  /** Ends the process. Running requests fail with GENERATOR_CLOSED. May be called twice. */
  close(): Promise<void>;
}
