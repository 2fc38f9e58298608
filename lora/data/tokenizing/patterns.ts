import * as library from '@huggingface/tokenizers';
import { partOf, textOf, unsupported } from './part.ts';

/**
 * Translates Oniguruma expressions to JavaScript. @huggingface/tokenizers 0.2.0 exports this class, but its type
 * declarations leave the class out. Once they include the class, the cast can be removed.
 */
const { SplitPreTokenizer } = library as unknown as {
  SplitPreTokenizer: new (config: object) => { readonly pattern: RegExp | null };
};

/**
 * Constructs of Oniguruma that a JavaScript expression cannot reproduce: `\G`, atomic groups, possessive quantifiers,
 * back references and subexpression calls, conditionals, and inline flags other than a case-insensitive group.
 * @huggingface/tokenizers 0.2.0 does not refuse them. For example, it treats a possessive quantifier as an ordinary
 * one.
 */
const BEYOND = /\\[GKRXkg1-9]|\(\?>|\(\?\(|\(\?(?!i:)[a-z-]+[:)]|[*+?]\+/;
/**
 * Letters that Unicode case folding equates with an ASCII letter. @huggingface/tokenizers 0.2.0 leaves them out of its
 * case-insensitive groups.
 */
const FOLDED: Readonly<Record<string, string>> = { '[sS]': '[sSſ]', '[kK]': '[kK\u212A]' };
/** A case-insensitive group with non-ASCII letters, which is refused because full case folding is not supported. */
const FOREIGN_FOLDING = /\(\?i:[^)]*[^ -~][^)]*\)/;

/**
 * Converts a `{ String }` or `{ Regex }` of tokenizer.json to a global JavaScript expression with the same meaning.
 * @throws TOKENIZER_UNSUPPORTED
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

/** Returns the source of an expression (flag u) that matches exactly this text. */
export function escaped(text: string): string {
  return text.replace(
    /[$()*+./?[\\\]^{|}-]/g,
    (character) => `\\u{${character.codePointAt(0)!.toString(16)}}`,
  );
}

/** Translates a regular expression from Oniguruma's syntax to JavaScript's. @throws TOKENIZER_UNSUPPORTED */
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
