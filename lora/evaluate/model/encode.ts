/** Turns requests into tokens as lm-evaluation-harness 0.4.13 does with models of transformers. */
import type { TextTokenizer } from '../../data/tokenizer.ts';
import { evaluateError } from '../errors.ts';
import { stripEnd } from '../python/text.ts';
import type { LikelihoodRequest } from './language-model.ts';

/**
 * A sequence to score. Each token from position `from` on gets its log-probability after all tokens before it. Earlier
 * tokens are only context.
 */
export interface TokenSequence {
  readonly ids: readonly number[];
  /** Position of the first token that is scored, at least 1. */
  readonly from: number;
}

export class RequestEncoder {
  readonly #tokenizer: TextTokenizer;
  readonly #maxLength: number;
  /** Token that is put before a text without a context, so that the first token of the text can be scored too. */
  readonly #first: number;
  readonly #firstText: string;

  /** @param maxLength maximum length of an input, in tokens */
  constructor(tokenizer: TextTokenizer, maxLength: number) {
    this.#tokenizer = tokenizer;
    this.#maxLength = maxLength;
    this.#first = tokenizer.bosId ?? tokenizer.eosId ?? 0;
    this.#firstText = tokenizer.decode([this.#first], { special: true });
  }

  /** Encodes a context with its continuation. Tokens that do not fit are cut off at the start. */
  pair({ context, continuation }: LikelihoodRequest): TokenSequence {
    if (context === '') return this.#fitted(this.#withoutContext(continuation), 1);
    // Spaces at the end of the context move to the continuation, because a token contains the space before its word.
    const shortened = stripEnd(context);
    const moved = context.slice(shortened.length) + continuation;
    const start = this.text(shortened);
    const whole = this.text(shortened + moved);
    const rest = whole.slice(start.length);
    if (rest.length === 0 || start.length === 0) {
      throw evaluateError(
        'TASK_DOCUMENT',
        `the continuation ${JSON.stringify(continuation.slice(0, 80))} adds no token to its context`,
        { continuation },
      );
    }
    return this.#fitted([...start, ...rest], start.length);
  }

  /**
   * Cuts a text into windows. Each token of the text is scored once. A window starts with at least one context token.
   */
  windows(text: string): TokenSequence[] {
    const ids = this.text(text);
    const size = this.#maxLength;
    const windows: TokenSequence[] = [];
    for (let done = 0; done < ids.length; ) {
      if (done === 0) {
        done = Math.min(size, ids.length);
        windows.push({ ids: [this.#first, ...ids.slice(0, done)], from: 1 });
        continue;
      }
      const end = Math.min(done + size, ids.length);
      const start = Math.max(0, end - size - 1);
      windows.push({ ids: ids.slice(start, end), from: done - start });
      done = end;
    }
    return windows;
  }

  /**
   * Encodes a prompt that the model continues. Cuts off the beginning of a long prompt, so that prompt and answer fit
   * into the context.
   * @param answerTokens maximum number of tokens of the answer
   */
  prompt(text: string, answerTokens: number): number[] {
    const fitting = this.#maxLength - answerTokens;
    if (fitting < 1) {
      throw evaluateError(
        'TASK_DOCUMENT',
        `an answer may have ${answerTokens} tokens, but the model has a context of ${this.#maxLength} tokens`,
        { answerTokens, context: this.#maxLength },
        { next: 'lower max_gen_toks in generation_kwargs' },
      );
    }
    const ids = this.text(text);
    return ids.length === 0 ? [this.#first] : ids.slice(-fitting);
  }

  /** Encodes a text. Adds the tokenizer's special tokens, unless the text already starts with the first of them. */
  text(text: string): number[] {
    return this.#tokenizer.encode(text, {
      special: this.#firstText === '' || !text.startsWith(this.#firstText),
    });
  }

  #withoutContext(continuation: string): number[] {
    const ids = this.#tokenizer.encode(continuation, { special: false });
    return ids[0] === this.#first ? ids : [this.#first, ...ids];
  }

  #fitted(ids: readonly number[], from: number): TokenSequence {
    const cut = Math.max(0, ids.length - this.#maxLength - 1);
    if (from - cut < 1 || ids.length <= from) {
      throw evaluateError(
        'TASK_DOCUMENT',
        `a continuation has ${ids.length - from} tokens, and the model has a context of ${this.#maxLength} tokens`,
        { tokens: ids.length - from, context: this.#maxLength },
      );
    }
    return { ids: ids.slice(cut), from: from - cut };
  }
}
