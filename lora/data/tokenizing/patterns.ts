import * as library from '@huggingface/tokenizers';
import { partOf, textOf, unsupported } from './part.ts';

/** The library translates Oniguruma's expressions; its declarations leave the class out. */
const { SplitPreTokenizer } = library as unknown as {
  SplitPreTokenizer: new (config: object) => { readonly pattern: RegExp | null };
};

/**
 * Constructs of Oniguruma that a JavaScript expression does not reproduce: `\G`, atomic groups, possessive quantifiers,
 * back references and subexpression calls, conditionals, and switches other than a case-insensitive group.
 */
const BEYOND = /\\[GKRXkg1-9]|\(\?>|\(\?\(|\(\?(?!i:)[a-z-]+[:)]|[*+?]\+/;
/** Letters that Unicode case folding takes for an ASCII letter, beside its upper case. */
const FOLDED: Readonly<Record<string, string>> = { '[sS]': '[sSſ]', '[kK]': '[kK\u212A]' };
/** A case-insensitive group whose letters are not all ASCII: full case folding is not reproduced. */
const FOREIGN_FOLDING = /\(\?i:[^)]*[^ -~][^)]*\)/;

/**
 * A `{ String }` or `{ Regex }` of tokenizer.json as a global expression with Oniguruma's meaning.
 * @throws SwarmError TOKENIZER_UNSUPPORTED
 */
export function patternOf(value: unknown, name: string): RegExp {
  const { String: literal, Regex: regex } = partOf(value, name) ?? {};
  if (literal !== undefined) {
    return new RegExp(escaped(textOf(literal, name)), 'gu');
  }
  const source = textOf(regex, name);
  if (BEYOND.test(source) || FOREIGN_FOLDING.test(source)) throw unsupported(name, source);
  return translated(source, name);
}

/** A text as an expression (with the flag u) that matches it alone. */
export function escaped(text: string): string {
  return text.replace(
    /[$()*+./?[\\\]^{|}-]/g,
    (character) => `\\u{${character.codePointAt(0)!.toString(16)}}`,
  );
}

/** @throws SwarmError TOKENIZER_UNSUPPORTED */
export function translated(source: string, name: string): RegExp {
  let pattern: RegExp | null;
  try {
    ({ pattern } = new SplitPreTokenizer({
      type: 'Split',
      pattern: { Regex: source },
      behavior: 'Isolated',
      invert: false,
    }));
  } catch {
    throw unsupported(name, source);
  }
  if (pattern === null) throw unsupported(name, source);
  const folded = pattern.source.replaceAll(/\[sS\]|\[kK\]/g, (letters) => FOLDED[letters]!);
  return new RegExp(folded, pattern.flags);
}
