/** Stretches of characters as stretches of tokens. */
import type { TextTokenizer } from '../tokenizer.ts';

/** Characters [start, end) of a text. */
export interface Span {
  start: number;
  end: number;
}

/**
 * Tokens of `text` and which of them lie in the spans (ascending, not overlapping). A token over the start of a
 * span is inside, one over its end is not: the text before a boundary, tokenised alone, gives the tokens up to
 * where they first differ, as TRL masks completions. `merged` counts the boundaries inside a token.
 */
export function tokeniseSpans(
  text: string,
  spans: readonly Span[],
  tokenizer: TextTokenizer,
): { ids: number[]; trained: Uint8Array; merged: number } {
  const encode = (part: string): number[] => tokenizer.encode(part, { special: false });
  const ids = encode(text);
  const boundaries = [...new Set(spans.flatMap(({ start, end }) => [start, end]))].sort((a, b) => a - b);
  let merged = 0;
  const places = piecewise(text, boundaries, ids, encode) ?? new Map<number, number>();
  if (places.size === 0) {
    for (const boundary of boundaries) {
      if (boundary === text.length) {
        places.set(boundary, ids.length);
        continue;
      }
      const before = encode(text.slice(0, boundary));
      const place = commonPrefix(before, ids);
      places.set(boundary, place);
      if (place < before.length) merged++;
    }
  }
  const trained = new Uint8Array(ids.length);
  for (const { start, end } of spans) trained.fill(1, places.get(start)!, places.get(end)!);
  return { ids, trained, merged };
}

/**
 * Where every boundary falls between two tokens, the pieces between them have the tokens of the whole text: one
 * more tokenisation for all boundaries instead of one for each.
 */
function piecewise(
  text: string,
  boundaries: readonly number[],
  ids: readonly number[],
  encode: (part: string) => number[],
): Map<number, number> | null {
  const places = new Map<number, number>();
  let start = 0;
  let place = 0;
  for (const end of [...boundaries, text.length]) {
    for (const id of encode(text.slice(start, end))) if (ids[place++] !== id) return null;
    places.set(end, place);
    start = end;
  }
  return place === ids.length ? places : null;
}

/** Number of leading elements that two lists share. */
export function commonPrefix(a: ArrayLike<unknown>, b: ArrayLike<unknown>): number {
  const most = Math.min(a.length, b.length);
  let length = 0;
  while (length < most && a[length] === b[length]) length++;
  return length;
}
