/** What each token of a sample says. */
import type { TextTokenizer } from '../tokenizer.ts';

export interface ShownToken {
  id: number;
  /** Empty where a character needs more than this token: the last of its tokens has it. */
  text: string;
  trained: boolean;
}

/** Tokens that a character and what decoders do at its ends may need; after so many, texts are those of single tokens. */
const MAX_WAIT = 8;

/**
 * Tokens with their parts of the decoded text. A token by itself may decode to half a character, or without its blank;
 * so each is decoded with the ones before it, back to a place where the text is known, and its part is taken when it
 * fits the text of all.
 */
export function tokenTexts(
  ids: readonly number[],
  trained: Uint8Array,
  tokenizer: Pick<TextTokenizer, 'decode'>,
): ShownToken[] {
  const decode = (part: readonly number[]): string => tokenizer.decode(part, { special: true });
  const full = decode(ids);
  // Tokens from `known` are decoded; of the text, `from` is where those begin and `to` where the last part ended.
  let [known, from, to] = [0, 0, 0];
  let group = 0;
  let lost = false;
  return ids.map((id, i) => {
    const token = { id, trained: trained[i] === 1 };
    if (lost) return { ...token, text: decode([id]) };
    const whole = decode(ids.slice(known, i + 1));
    // Decoders of SentencePiece take a blank from the beginning of a text.
    const fitting = [whole, ` ${whole}`].find(
      (text) => full.startsWith(text, from) && from + text.length >= to,
    );
    if (fitting === undefined) {
      lost = i + 1 - group >= MAX_WAIT;
      return { ...token, text: lost ? decode(ids.slice(group, i + 1)) : '' };
    }
    const text = full.slice(to, from + fitting.length);
    const end = from + fitting.length;
    // What looks like half a character, and is one in the text itself: later tokens are decoded with it.
    if (!fitting.endsWith('\ufffd')) [known, from] = [group, to];
    to = end;
    group = i + 1;
    return { ...token, text };
  });
}
