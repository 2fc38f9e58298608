/**
 * Finds added tokens in a text, as Hugging Face's Rust library `tokenizers` does.
 *
 * In contrast, the JavaScript library @huggingface/tokenizers 0.2.0 ignores `single_word`, applies `lstrip` and
 * `rstrip` with JavaScript's definition of white space, and does not read `added_tokens_decoder` of the config.
 */
import type { Normalize } from './normalizers.ts';
import { escaped } from './patterns.ts';

/** A token that is searched for in a text before the text is split into words. */
export interface AddedToken {
  readonly id: number;
  readonly content: string;
  /** Whether the token matches only where no word character is next to it. */
  readonly single_word: boolean;
  /** Whether a match includes the white space before the token. */
  readonly lstrip: boolean;
  /** Whether a match includes the white space after the token. */
  readonly rstrip: boolean;
  /** Whether the normalized form of the token is searched for in the normalized text. */
  readonly normalized: boolean;
  readonly special: boolean;
}

/** Text between added tokens, or the id of an added token. `first` is true if the section starts the text. */
export type Section = { readonly text: string; readonly first: boolean } | { readonly id: number };

// Hugging Face's Rust library uses \w and \s of the regex crate, which follow Unicode.
const STARTS_WITH_WORD = /^[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\u200c\u200d]/u;
const ENDS_WITH_WORD = /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\u200c\u200d]$/u;
const SPACE = /^\p{White_Space}$/u;

interface Finder {
  readonly pattern: RegExp | null;
  readonly tokens: ReadonlyMap<string, AddedToken>;
}

/**
 * Finds added tokens. As in the Rust library, tokens without `normalized` are searched for first. Tokens with
 * `normalized` are then searched for in the remaining text.
 */
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

  /** Splits a text into sections, in order. Texts are normalized; empty texts are left out. */
  sections(text: string): Section[] {
    return split(text, this.#raw, true).flatMap((section) =>
      'id' in section ? [section] : split(this.#normalize(section.text), this.#normalized, section.first),
    );
  }
}

function finder(entries: readonly (readonly [string, AddedToken])[]): Finder {
  const tokens = new Map(entries.filter(([content]) => content !== ''));
  if (tokens.size === 0) return { pattern: null, tokens };
  // The leftmost match wins. Of several matches at one position, the longest wins.
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
    // All White_Space characters are in the basic plane, so they are single UTF-16 units.
    if (token.lstrip) while (from > start && SPACE.test(text[from - 1]!)) from--;
    if (token.rstrip) while (to < text.length && SPACE.test(text[to]!)) to++;
    upTo(from);
    sections.push({ id: token.id });
    start = to;
  }
  upTo(text.length);
  return sections;
}

/** Return the two UTF-16 units before or after a position. Two units are enough for one character. */
const before = (text: string, place: number): string => text.slice(Math.max(0, place - 2), place);
const after = (text: string, place: number): string => text.slice(place, place + 2);
