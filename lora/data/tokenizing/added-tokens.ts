import type { Normalize } from './normalizers.ts';
import { escaped } from './patterns.ts';

/** A token that is looked for in the text before it is cut into words. */
export interface AddedToken {
  readonly id: number;
  readonly content: string;
  /** Only where no word character touches it. */
  readonly single_word: boolean;
  /** Takes the whitespace before it with it. */
  readonly lstrip: boolean;
  /** And after it. */
  readonly rstrip: boolean;
  /** Looked for in the normalized text, in its own normalized form. */
  readonly normalized: boolean;
  readonly special: boolean;
}

/** Text between added tokens, or the id of one. `first`: it begins the text. */
export type Section = { readonly text: string; readonly first: boolean } | { readonly id: number };

// The regex crate's \w and \s, by which the original decides: Unicode's, whatever the tokenizer's own patterns mean.
const STARTS_WITH_WORD = /^[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\u200c\u200d]/u;
const ENDS_WITH_WORD = /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\u200c\u200d]$/u;
const SPACE = /^\p{White_Space}$/u;

interface Finder {
  readonly pattern: RegExp | null;
  readonly tokens: ReadonlyMap<string, AddedToken>;
}

/** Finds added tokens as the original does: those that are not normalized first, then, in what is left, the others. */
export class AddedTokens {
  readonly #raw: Finder;
  readonly #normalized: Finder;
  readonly #normalize: Normalize;

  constructor(tokens: readonly AddedToken[], normalize: Normalize) {
    this.#normalize = normalize;
    const of = (normalized: boolean) => tokens.filter((token) => token.normalized === normalized);
    this.#raw = finder(of(false).map((token) => [token.content, token]));
    this.#normalized = finder(of(true).map((token) => [normalize(token.content), token]));
  }

  /** Sections in order, the texts normalized; empty texts are left out. */
  sections(text: string): Section[] {
    return split(text, this.#raw, true).flatMap((section) =>
      'id' in section ? [section] : split(this.#normalize(section.text), this.#normalized, section.first),
    );
  }
}

function finder(entries: readonly (readonly [string, AddedToken])[]): Finder {
  const tokens = new Map(entries.filter(([content]) => content !== ''));
  if (tokens.size === 0) return { pattern: null, tokens };
  // Leftmost, then longest.
  const contents = [...tokens.keys()].sort((a, b) => b.length - a.length);
  return { pattern: new RegExp(contents.map((content) => escaped(content)).join('|'), 'gu'), tokens };
}

function split(text: string, { pattern, tokens }: Finder, first: boolean): Section[] {
  const sections: Section[] = [];
  let start = 0;
  const upTo = (end: number): void => {
    if (end > start) sections.push({ text: text.slice(start, end), first: first && start === 0 });
  };
  for (const { 0: content, index } of pattern === null ? [] : text.matchAll(pattern)) {
    const token = tokens.get(content)!;
    let [from, to] = [index, index + content.length];
    const touched = ENDS_WITH_WORD.test(before(text, from)) || STARTS_WITH_WORD.test(after(text, to));
    if (token.single_word && touched) continue;
    // No character of White_Space lies outside the basic plane.
    if (token.lstrip) while (from > start && SPACE.test(text[from - 1]!)) from--;
    if (token.rstrip) while (to < text.length && SPACE.test(text[to]!)) to++;
    upTo(from);
    sections.push({ id: token.id });
    start = to;
  }
  upTo(text.length);
  return sections;
}

/** The character before and after a place: enough to tell whether a word touches it. */
const before = (text: string, place: number): string => text.slice(Math.max(0, place - 2), place);
const after = (text: string, place: number): string => text.slice(place, place + 2);
