import type { TextTokenizer } from '../../lora/data/tokenizer.ts';

/**
 * Texts of single tokens, for log-probabilities. A token is decoded after another token, because a decoder may remove the
 * space before the first token of a text. Special tokens keep their text. A token that is a part of a character has the
 * text U+FFFD.
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
