import type { GeneratedToken, GenerateRequest, Generator, TokenLogprob } from '../../lora/generate/types.ts';

/**
 * Reason why a text ended. `stop`: the model or a stop string ended the text. `length`: the text reached its
 * maximum length.
 */
export type FinishReason = 'stop' | 'length';

/** A token of an answer with log-probabilities. */
export interface LoggedToken {
  readonly id: number;
  /** Log-probability; null for the first token of an echoed prompt, because no token precedes it. */
  readonly logprob: number | null;
  readonly top: readonly TokenLogprob[] | null;
}

/** A piece of the text of a choice. */
export interface Piece {
  readonly text: string;
  /**
   * Tokens whose text begins in this piece or earlier, and that no earlier piece lists. Empty if the request asks for
   * no log-probabilities.
   */
  readonly tokens: readonly LoggedToken[];
  /** Reason why the choice ended; null if more pieces follow. */
  readonly finish: FinishReason | null;
  /** Number of tokens generated since the last piece. */
  readonly generated: number;
  /**
   * Number of prompt tokens that were found in the prefix cache. The last piece has this number; all other
   * pieces have 0.
   */
  readonly cached: number;
}

/** A choice of an answer: one text. */
export interface Choice {
  readonly request: Omit<GenerateRequest, 'client' | 'signal'> & { readonly maxTokens: number };
  /** Text of the prompt, if the answer begins with it; else null. */
  readonly echo: string | null;
  /** Whether the log-probabilities include the end token of the text. */
  readonly listsEnd: boolean;
}

export interface ChoiceDeps {
  readonly generator: Pick<Generator, 'submit' | 'score' | 'tokenizer'>;
  readonly client: string;
  readonly signal: AbortSignal;
}

/** Computes a choice and yields its text in pieces. The last piece has a finish reason. */
export async function* choicePieces(
  { request, echo, listsEnd }: Choice,
  { generator, client, signal }: ChoiceDeps,
): AsyncGenerator<Piece, void, undefined> {
  const { tokens: prompt, adapter, maxTokens, logprobs } = request;
  if (echo !== null) {
    const finish = maxTokens === 0 ? 'length' : null;
    const scores =
      logprobs === undefined
        ? []
        : await generator.score({ tokens: prompt, adapter, top: logprobs, client, signal });
    yield { text: echo, tokens: scores, finish, generated: 0, cached: 0 };
  } else if (maxTokens === 0) yield { text: '', tokens: [], finish: 'length', generated: 0, cached: 0 };
  if (maxTokens === 0) return;

  const generation = generator.submit({ ...request, client, signal });
  // The loop below throws the same error, so a rejection of `result` needs no handling.
  generation.result.catch(() => {});
  const waiting = new WaitingTokens(generator, { keepsStart: (request.stop ?? []).length > 0 });
  let generated = 0;
  for await (const token of generation) {
    generated++;
    if (logprobs !== undefined) waiting.add(token);
    if (token.text === '') continue;
    yield { text: token.text, tokens: waiting.take(token.text.length), finish: null, generated, cached: 0 };
    generated = 0;
  }
  const { reason, cachedTokens: cached } = await generation.result;
  // If a stop string ended the text, the tokens that still wait belong to the stop string, which is not shown.
  const rest = reason === 'stop' ? [] : waiting.takeAll();
  const tokens = reason === 'end' && !listsEnd ? rest.slice(0, -1) : rest;
  yield { text: '', tokens, finish: reason === 'length' ? 'length' : 'stop', generated, cached };
}

/** Generated tokens whose text has not been shown yet. The piece that shows this text also lists the tokens. */
class WaitingTokens {
  readonly #tokenizer: Generator['tokenizer'];
  readonly #keepsStart: boolean;
  readonly #ids: number[] = [];
  readonly #waiting: { token: GeneratedToken; start: number }[] = [];
  #shown = 0;

  /**
   * @param options `keepsStart`: records where the text of each token begins. This is needed with stop strings, because
   *   the text of several tokens may be held back and then shown in part.
   */
  constructor({ tokenizer }: Pick<Generator, 'tokenizer'>, { keepsStart }: { keepsStart: boolean }) {
    this.#tokenizer = tokenizer;
    this.#keepsStart = keepsStart;
  }

  add(token: GeneratedToken): void {
    const start = this.#keepsStart ? this.#tokenizer.decode(this.#ids).length : 0;
    this.#ids.push(token.id);
    this.#waiting.push({ token, start });
  }

  /**
   * Extends the shown text by `characters` characters. Removes and returns the tokens whose text begins within the
   * shown text.
   */
  take(characters: number): GeneratedToken[] {
    this.#shown += characters;
    const later = this.#waiting.findIndex(({ start }) => start >= this.#shown);
    const taken = this.#waiting.splice(0, later < 0 ? this.#waiting.length : later);
    return taken.map(({ token }) => token);
  }

  takeAll(): GeneratedToken[] {
    return this.#waiting.splice(0).map(({ token }) => token);
  }
}
