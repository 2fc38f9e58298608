/** Stretches of characters as stretches of tokens. */
import type { TextTokenizer } from '../tokenizer.ts';

/** Characters [start, end) of a text. */
export interface Span {
  start: number;
  end: number;
}

/**
 * Tokens of `text` and which of them lie in the spans. A token over the start of a span is inside, one over its end
 * is not: the text before a boundary, tokenised alone, gives the tokens up to where they first differ, as TRL masks
 * completions. `merged` counts the boundaries inside a token.
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
 * Which token each boundary (ascending) comes before. Where the text between two boundaries has alone the tokens that
 * it has in the whole, as with special tokens around every turn, it is tokenised once more, and no text before it.
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
  // Up to here text and tokens go together.
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
 * Tokens of a text that follows another: SentencePiece puts a blank before the first word of a text. null where the
 * text merges with the line end that is put before it.
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

/** Number of leading elements that two lists share. */
export function commonPrefix(a: ArrayLike<unknown>, b: ArrayLike<unknown>): number {
  const most = Math.min(a.length, b.length);
  let length = 0;
  while (length < most && a[length] === b[length]) length++;
  return length;
}
