import type { TextTokenizer } from '../tokenizer.ts';

/** Characters [start, end) of a text. */
export interface Span {
  start: number;
  end: number;
}

/**
 * Tokenises `text` and marks the tokens inside the spans. A token that crosses the start of a span counts as
 * inside; a token that crosses its end does not. As in TRL's completion masks, the text before each boundary
 * of a span is also tokenised alone. The boundary lies where the tokens of this shorter text end, or first
 * differ from the tokens of the whole text.
 * @returns `trained`: 1 for each token inside the spans, 0 for all others; `merged`: the number of boundaries
 *   that lie inside a token
 */
export function tokeniseSpans(
  text: string,
  spans: readonly Span[],
  tokenizer: TextTokenizer,
): { ids: number[]; trained: Uint8Array; merged: number } {
  const ids = tokenizer.encode(text, { special: false });
  const boundaries = [...new Set(spans.flatMap(({ start, end }) => [start, end]))].sort((a, b) => a - b);
  const { places, merged } = findPlaces(text, boundaries, ids, tokenizer);
  const trained = new Uint8Array(ids.length);
  for (const { start, end } of spans) trained.fill(1, places.get(start)!, places.get(end)!);
  return { ids, trained, merged };
}

/**
 * Finds the index of the token after each boundary. The boundaries must be in ascending order. Usually special tokens
 * surround every turn, so the text between two boundaries gives the same tokens alone as within the whole text. In this
 * case, only the text between two boundaries is tokenised again. Otherwise, the whole text before the boundary is
 * tokenised again.
 */
function findPlaces(
  text: string,
  boundaries: readonly number[],
  ids: readonly number[],
  tokenizer: TextTokenizer,
): { places: Map<number, number>; merged: number } {
  const encode = (part: string): number[] => tokenizer.encode(part, { special: false });
  const places = new Map([[text.length, ids.length]]);
  const ways = [insideText(encode), encode];
  let merged = 0;
  // A position in the text that is known to lie between two tokens, and the index of the second of these tokens.
  let [known, place] = [0, 0];
  for (const boundary of boundaries) {
    if (places.has(boundary)) continue;
    const piece = text.slice(known, boundary);
    const tokens = (known === 0 ? [encode] : ways)
      .map((way) => way(piece))
      .find((found) => isAt(found, ids, place));
    if (!tokens) {
      const before = encode(text.slice(0, boundary));
      const same = commonPrefix(before, ids);
      places.set(boundary, same);
      if (same < before.length) merged++;
      else [known, place] = [boundary, same];
    } else {
      [known, place] = [boundary, place + tokens.length];
      places.set(boundary, place);
    }
  }
  return { places, merged };
}

/**
 * Returns a function that encodes a text as the continuation of another. Encoded alone, a text would get an additional
 * space from SentencePiece, which adds a space before the first word. Therefore the function puts a line end before the
 * text and drops the tokens of the line end. It returns null if the line end and the text share a token.
 */
function insideText(encode: (part: string) => number[]): (part: string) => number[] | null {
  const before = '\n';
  const skipped = encode(before);
  return (part) => {
    const tokens = encode(before + part);
    return isAt(skipped, tokens, 0) ? tokens.slice(skipped.length) : null;
  };
}

function isAt(part: readonly number[] | null, whole: readonly number[], place: number): boolean {
  return (
    part !== null && part.length <= whole.length - place && part.every((id, i) => whole[place + i] === id)
  );
}

/** Returns the number of leading elements that two lists share. */
export function commonPrefix(a: ArrayLike<unknown>, b: ArrayLike<unknown>): number {
  const most = Math.min(a.length, b.length);
  let length = 0;
  while (length < most && a[length] === b[length]) length++;
  return length;
}
