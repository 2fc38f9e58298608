import type { TextTokenizer } from '../tokenizer.ts';

export interface ShownToken {
  id: number;
  /** The token's part of the text. If a character spans several tokens, it belongs to the last of them. */
  text: string;
  trained: boolean;
}

/**
 * Maximum number of tokens that a character may span. A character has at most 4 bytes in UTF-8, so it rarely spans more
 * than 4 tokens. After a character that spans more than this maximum, every token of the sample is decoded alone.
 */
const MAX_WAIT = 8;

/**
 * Returns each token with its part of the decoded text.
 *
 * A token decoded alone may give half a character, or lose its leading space. Therefore each token is decoded together
 * with a few tokens before it, beginning with a token whose position in the text of the whole sample is known. The
 * decoded text is used if the sample's text contains it at this position.
 */
export function tokenTexts(
  ids: readonly number[],
  trained: Uint8Array,
  tokenizer: Pick<TextTokenizer, 'decode'>,
): ShownToken[] {
  const decode = (part: readonly number[]): string => tokenizer.decode(part, { special: true });
  const full = decode(ids);
  // Each token is decoded together with the tokens from index `known` on. In `full`, the text of these tokens
  // begins at `from`, and the text of the previous token ends at `to`.
  let [known, from, to] = [0, 0, 0];
  let group = 0;
  let lost = false;
  return ids.map((id, i) => {
    const token = { id, trained: trained[i] === 1 };
    if (lost) return { ...token, text: decode([id]) };
    const whole = decode(ids.slice(known, i + 1));
    // SentencePiece decoders remove a leading space, so the text with a leading space is tried too.
    const fitting = [whole, ` ${whole}`].find(
      (text) => full.startsWith(text, from) && from + text.length >= to,
    );
    if (fitting === undefined) {
      lost = i + 1 - group >= MAX_WAIT;
      return { ...token, text: lost ? decode(ids.slice(group, i + 1)) : '' };
    }
    const text = full.slice(to, from + fitting.length);
    const end = from + fitting.length;
    // U+FFFD may stand for half of a character. `known` then stays where it is, so that later tokens are decoded
    // together with this token.
    if (!fitting.endsWith('\ufffd')) [known, from] = [group, to];
    to = end;
    group = i + 1;
    return { ...token, text };
  });
}
