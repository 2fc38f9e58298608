import type { TextTokenizer } from '../../lora/data/tokenizer.ts';

/**
 * Returns the texts of single tokens, which are listed with log-probabilities. A token is decoded together with a token
 * before it, because a decoder may remove the space at the start of a text. Special tokens keep their text. A token
 * that is only a part of a character has the text U+FFFD.
 */
export class TokenTexts {
  readonly #tokenizer: TextTokenizer;
  readonly #anchor: readonly number[];
  readonly #anchorText: string;
  readonly #texts = new Map<number, string>();

  constructor({ tokenizer }: { tokenizer: TextTokenizer }) {
    this.#tokenizer = tokenizer;
    this.#anchor = tokenizer.encode('a', { special: false });
    this.#anchorText = tokenizer.decode(this.#anchor, { special: true });
  }

  of(id: number): string {
    const known = this.#texts.get(id);
    if (known !== undefined) return known;
    const whole = this.#tokenizer.decode([...this.#anchor, id], { special: true });
    const text = whole.slice(this.#anchorText.length);
    this.#texts.set(id, text);
    return text;
  }
}
