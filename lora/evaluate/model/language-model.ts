/** A context, and the text after it whose probability a task asks for. */
export interface LikelihoodRequest {
  readonly context: string;
  readonly continuation: string;
}

export interface Likelihood {
  /** Natural log-probability of the continuation. */
  readonly logLikelihood: number;
  /** Whether every token of the continuation is the most likely one. */
  readonly isGreedy: boolean;
}

/** A prompt to continue greedily. */
export interface GenerationRequest {
  readonly prompt: string;
  /** Stop strings. The answer ends before the first one that the model generates. */
  readonly until: readonly string[];
  readonly maxTokens: number;
}

export interface ModelOptions {
  /** Receives the number of requests that are done. */
  readonly onProgress?: (done: number) => void;
  readonly signal?: AbortSignal | undefined;
}

/** The interface through which tasks use a model. Results have the order of the requests. */
export interface LanguageModel {
  /** Returns the log-probability of each continuation. */
  likelihoods(requests: readonly LikelihoodRequest[], options?: ModelOptions): Promise<Likelihood[]>;
  /** Returns the log-probability of each whole text. Long texts are cut into windows. */
  rollingLikelihoods(texts: readonly string[], options?: ModelOptions): Promise<number[]>;
  /** Returns the answer to each prompt. */
  generate(requests: readonly GenerationRequest[], options?: ModelOptions): Promise<string[]>;
}
