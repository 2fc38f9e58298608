import type { TextTokenizer } from '../data/tokenizer.ts';

/** The tokenizer decodes bytes that do not form a whole UTF-8 character to this replacement character. */
const INCOMPLETE = '\ufffd';

/**
 * Turns tokens into text as they arrive. A piece never ends within a character, and text that may be the beginning of a
 * stop string is held back.
 */
export class TextStream {
  readonly #tokenizer: Pick<TextTokenizer, 'decode'>;
  readonly #stops: readonly string[];
  readonly #special: boolean;
  readonly #ids: number[] = [];
  /**
   * Each new token is decoded together with the tokens from `#start` on, because some decoders change the first token
   * of a text. The text of the tokens before `#end` has already been returned or held back.
   */
  #start = 0;
  #end = 0;
  #held = '';
  #stopped = false;
  #isIncomplete = false;

  constructor(
    tokenizer: Pick<TextTokenizer, 'decode'>,
    { stops = [], special = false }: { stops?: readonly string[]; special?: boolean } = {},
  ) {
    this.#tokenizer = tokenizer;
    this.#stops = stops;
    this.#special = special;
  }

  /** Whether a stop string was found. If so, the stream gives no more text. */
  get stopped(): boolean {
    return this.#stopped;
  }

  /** Whether some text is held back, because it may be a part of a character or the beginning of a stop string. */
  get holds(): boolean {
    return this.#isIncomplete || this.#held !== '';
  }

  /** Adds a token. Returns the new text, except the part that is held back. */
  add(id: number): string {
    this.#ids.push(id);
    const whole = this.#decode(this.#start, this.#ids.length);
    this.#isIncomplete = whole.endsWith(INCOMPLETE);
    return this.#isIncomplete ? '' : this.#take(whole);
  }

  /** Ends the stream. Returns the text that was held back, without a stop string. */
  finish(): string {
    const text = this.#take(this.#decode(this.#start, this.#ids.length));
    this.#isIncomplete = false;
    if (this.#stopped) return text;
    const rest = this.#held;
    this.#held = '';
    return text + rest;
  }

  #take(whole: string): string {
    if (this.#stopped) return '';
    const known = this.#decode(this.#start, this.#end);
    const fresh = whole.slice(known.length);
    // A special token may give no text. `#start` then stays, so that the next decoding also begins with tokens that
    // have text.
    if (fresh !== '') {
      this.#start = this.#end;
      this.#end = this.#ids.length;
    }
    return this.#release(this.#held + fresh);
  }

  #release(text: string): string {
    const found = this.#stops.map((stop) => text.indexOf(stop)).filter((at) => at >= 0);
    if (found.length > 0) {
      this.#stopped = true;
      this.#held = '';
      return text.slice(0, Math.min(...found));
    }
    let held = 0;
    for (const stop of this.#stops) {
      for (let length = Math.min(stop.length - 1, text.length); length > held; length--) {
        if (stop.startsWith(text.slice(-length))) held = length;
      }
    }
    this.#held = text.slice(text.length - held);
    return text.slice(0, text.length - held);
  }

  #decode(start: number, end: number): string {
    return this.#tokenizer.decode(this.#ids.slice(start, end), { special: this.#special });
  }
}
