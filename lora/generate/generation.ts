import { once } from 'node:events';
import type { TextTokenizer } from '../data/tokenizer.ts';
import { TextStream } from './text-stream.ts';
import type { GeneratedToken, GenerateRequest, Generation, GenerationResult } from './types.ts';
import type { ChosenToken, EndReason } from './work.ts';

/** Computes the tokens of a request. `onToken` gets each token; the signal cancels the request. */
export type Compute = (onToken: (token: ChosenToken) => void, signal: AbortSignal) => Promise<EndReason>;

/**
 * A running request. It turns tokens into text, ends at a stop string, and passes a cancellation on to the computation.
 */
export class RunningGeneration implements Generation {
  readonly result: Promise<GenerationResult>;
  readonly #request: GenerateRequest;
  readonly #text: TextStream;
  readonly #endTokens: readonly number[];
  readonly #cancel = new AbortController();
  readonly #ids: number[] = [];
  #written = '';
  /** Tokens that the stream can yield. */
  readonly #ready: GeneratedToken[] = [];
  /** Tokens whose text is held back (see `TextStream`). */
  #waiting: GeneratedToken[] = [];
  #cachedTokens = 0;
  #isDone = false;
  readonly #changed = new EventTarget();

  constructor(
    request: GenerateRequest,
    { tokenizer, endTokens }: { tokenizer: TextTokenizer; endTokens: readonly number[] },
    compute: Compute,
  ) {
    this.#request = request;
    this.#endTokens = request.endTokens ?? endTokens;
    this.#text = new TextStream(tokenizer, {
      stops: request.stop ?? [],
      special: request.special ?? false,
    });
    this.result = this.#run(compute).finally(() => {
      this.#isDone = true;
      this.#notify();
    });
    // A caller that reads only the stream gets the error from the stream. For such a caller, the rejection of
    // `result` must not count as unhandled.
    this.result.catch(() => {});
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<GeneratedToken> {
    try {
      for (;;) {
        for (let next = this.#ready.shift(); next !== undefined; next = this.#ready.shift()) yield next;
        if (this.#isDone) break;
        await once(this.#changed, 'change');
      }
      await this.result;
    } finally {
      this.#cancel.abort();
    }
  }

  async #run(compute: Compute): Promise<GenerationResult> {
    const { signal, tokens } = this.#request;
    signal?.throwIfAborted();
    const both = signal === undefined ? this.#cancel.signal : AbortSignal.any([signal, this.#cancel.signal]);
    const stopped = Promise.withResolvers<null>();
    const computed = compute((token) => {
      if (this.#text.stopped) return;
      this.#add(token);
      if (this.#text.stopped) stopped.resolve(null);
    }, both);
    let end: EndReason | null;
    try {
      end = await Promise.race([computed, stopped.promise]);
    } catch (error) {
      both.throwIfAborted();
      throw error;
    }
    this.#addRest();
    if (this.#text.stopped) {
      // The text is complete, so an error of the cancelled computation does not matter.
      computed.catch(() => {});
      this.#cancel.abort();
    }
    return {
      text: this.#written,
      ids: this.#ids,
      reason: this.#text.stopped ? 'stop' : end!,
      promptTokens: tokens.length,
      cachedTokens: this.#cachedTokens,
    };
  }

  #add({ id, logprob, top, cachedTokens }: ChosenToken): void {
    this.#cachedTokens = cachedTokens;
    this.#ids.push(id);
    const isEnd = this.#endTokens.includes(id);
    if (isEnd) this.#addRest();
    const text = isEnd ? '' : this.#text.add(id);
    this.#written += text;
    this.#waiting.push({ id, text, logprob, top });
    if (!this.#text.holds) this.#release();
  }

  /** Adds the text that was held back to the last waiting token, and releases all waiting tokens. */
  #addRest(): void {
    const rest = this.#text.finish();
    this.#written += rest;
    const last = this.#waiting.pop();
    if (last !== undefined) this.#waiting.push({ ...last, text: last.text + rest });
    this.#release();
  }

  #release(): void {
    this.#ready.push(...this.#waiting);
    this.#waiting = [];
    this.#notify();
  }

  #notify(): void {
    this.#changed.dispatchEvent(new Event('change'));
  }
}
