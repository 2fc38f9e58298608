import type { Rendered } from '../render/rendered.ts';
import type { Renderer } from '../render/renderer.ts';
import type { TextTokenizer } from '../tokenizer.ts';

/**
 * A sample counts as ending with a special token if at most this number of supervised tokens follow that token. Templates
 * often write a newline after the token that ends a turn.
 */
const MAX_AFTER_END = 2;

export interface SpecialTokenCount {
  /** Number of samples that begin with two beginning-of-text tokens. */
  doubleBos: number;
  /** Number of samples that lack the special tokens that the tokenizer puts before a text. */
  withoutBos: number;
  /** Number of samples whose last supervised token is the tokenizer's end-of-text token. */
  endWithEos: number;
  /**
   * Samples whose supervised tokens end with a special token that is not the tokenizer's end-of-text token,
   * counted by the text of that token.
   */
  endWithOther: Record<string, number>;
  /**
   * Samples whose supervised tokens do not end with a special token. These samples do not teach the model to
   * stop.
   */
  withoutEnd: number;
  /** Number of unknown tokens in all samples. */
  unknownTokens: number;
  /** Number of samples with unknown tokens. */
  withUnknown: number;
}

/** Checks whether samples begin and end with the special tokens that the model expects. */
export class SpecialTokenCounter {
  readonly #tokenizer: TextTokenizer;
  readonly #unknownId: number | null;
  readonly #special = new Map<number, boolean>();
  readonly #count: SpecialTokenCount = {
    doubleBos: 0,
    withoutBos: 0,
    endWithEos: 0,
    endWithOther: {},
    withoutEnd: 0,
    unknownTokens: 0,
    withUnknown: 0,
  };

  constructor({ tokenizer, specialTokens }: Pick<Renderer, 'tokenizer' | 'specialTokens'>) {
    this.#tokenizer = tokenizer;
    const unknown = specialTokens.unk_token;
    const ids = unknown === undefined ? [] : tokenizer.encode(unknown, { special: false });
    // If the unknown token is also the end-of-text token, as in GPT-2, the tokenizer never produces it for a text, so
    // there is nothing to count.
    this.#unknownId = ids.length === 1 && ids[0] !== tokenizer.eosId ? ids[0]! : null;
  }

  add({ ids, trained }: Rendered): void {
    const count = this.#count;
    const tokenizer = this.#tokenizer;
    const { bosId, prefix } = tokenizer;
    if (bosId !== null && ids[0] === bosId && ids[1] === bosId) count.doubleBos++;
    if (prefix.length > 0 && !prefix.every((id, i) => ids[i] === id)) count.withoutBos++;
    const unknown = this.#unknownId === null ? 0 : ids.filter((id) => id === this.#unknownId).length;
    count.unknownTokens += unknown;
    if (unknown > 0) count.withUnknown++;
    const last = trained.lastIndexOf(1);
    if (last < 0) return;
    for (let at = last; at >= 0 && at >= last - MAX_AFTER_END && trained[at] === 1; at--) {
      const id = ids[at]!;
      if (!this.#isSpecial(id) || (id === tokenizer.bosId && id !== tokenizer.eosId)) continue;
      if (id === tokenizer.eosId) count.endWithEos++;
      else {
        const text = tokenizer.decode([id], { special: true });
        count.endWithOther[text] = (count.endWithOther[text] ?? 0) + 1;
      }
      return;
    }
    count.withoutEnd++;
  }

  result(): SpecialTokenCount {
    return this.#count;
  }

  /** Returns whether a token is special, that is, left out of decoded text. */
  #isSpecial(id: number): boolean {
    let special = this.#special.get(id);
    if (special === undefined) {
      special = id === this.#tokenizer.eosId || this.#tokenizer.decode([id]) === '';
      this.#special.set(id, special);
    }
    return special;
  }
}
