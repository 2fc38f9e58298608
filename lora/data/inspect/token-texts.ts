import type { TextTokenizer } from '../tokenizer.ts';

export interface ShownToken {
  id: number;
  /** Its part of the text. Empty if a character spans several tokens: the last of them carries it. */
  text: string;
  trained: boolean;
}

/** Most tokens that one character may span. After that, the rest of the sample is decoded token by token. */
const MAX_WAIT = 8;

/**
 * Returns each token with its part of the decoded text.
 *
 * A token decoded alone may give half a character, or lose its leading space. So it is decoded together with the tokens
 * before it, back to a position whose text is known. Its text is taken if the result fits into the text of the whole
 * sample.
 */
export function tokenTexts(
  ids: readonly number[],
  trained: Uint8Array,
  tokenizer: Pick<TextTokenizer, 'decode'>,
): ShownToken[] {
  const decode = (part: readonly number[]): string => tokenizer.decode(part, { special: true });
  const full = decode(ids);
  // Tokens are decoded from index `known` on. In the text, they begin at `from`; the last part ended at `to`.
  let [known, from, to] = [0, 0, 0];
  let group = 0;
  let lost = false;
  return ids.map((id, i) => {
    const token = { id, trained: trained[i] === 1 };
    if (lost) return { ...token, text: decode([id]) };
    const whole = decode(ids.slice(known, i + 1));
    // SentencePiece decoders remove a leading space.
    const fitting = [whole, ` ${whole}`].find(
      (text) => full.startsWith(text, from) && from + text.length >= to,
    );
    if (fitting === undefined) {
      lost = i + 1 - group >= MAX_WAIT;
      return { ...token, text: lost ? decode(ids.slice(group, i + 1)) : '' };
    }
    const text = full.slice(to, from + fitting.length);
    const end = from + fitting.length;
    // U+FFFD may be half of a character: keep the start, so that later tokens are decoded together with this one.
    if (!fitting.endsWith('\ufffd')) [known, from] = [group, to];
    to = end;
    group = i + 1;
    return { ...token, text };
  });
}
