/**
 * Splits text into words, as Hugging Face's Rust library `tokenizers` does.
 *
 * In contrast, the JavaScript library @huggingface/tokenizers 0.2.0 uses JavaScript's `\s` for byte-level words (U+FEFF
 * counts as a space, U+0085 does not), knows only the digits 0 to 9, treats the behaviours `MergedWith…` and
 * `Contiguous` as `Isolated`, and never splits at metaspaces.
 */
import { toByteCharacters } from './byte-characters.ts';
import { type Part, partOf, partsOf, textOf, unsupported } from './part.ts';
import { escaped, patternOf, translated } from './patterns.ts';

/** Splits a piece of text into words. Tokens never span words. `first` is true if the piece starts the text. */
export type PreTokenize = (text: string, first: boolean) => string[];

/**
 * The words of GPT-2. A word is a contraction, white space, or a sequence of letters, of numbers or of other
 * characters. A sequence includes one space before it, if there is one.
 */
const GPT2 = translated(
  String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`,
  'ByteLevel',
);

/** Reads the `pre_tokenizer` of tokenizer.json. @throws TOKENIZER_UNSUPPORTED */
export function preTokenizerOf(value: unknown): PreTokenize {
  const part = partOf(value, 'pre_tokenizer');
  return part === null ? (text) => [text] : build(part);
}

function build(part: Part): PreTokenize {
  switch (part.type) {
    case 'Sequence': {
      const steps = partsOf(part.pretokenizers, 'pretokenizers').map(build);
      return (text, first) =>
        steps.reduce((words, step) => words.flatMap((word, i) => step(word, first && i === 0)), [text]);
    }
    case 'ByteLevel':
      return byteLevel(part);
    case 'Metaspace':
      return metaspace(part);
    case 'Split':
      return split(patternOf(part.pattern, 'pre_tokenizer.pattern'), part.behavior, part.invert === true);
    case 'Digits':
      return split(part.individual_digits === true ? /\p{N}/gu : /\p{N}+/gu, 'Isolated', false);
    default:
      throw unsupported('pre_tokenizer', part.type);
  }
}

function byteLevel({ add_prefix_space: prefix = true, use_regex: regex = true }: Part): PreTokenize {
  return (text) => {
    const spaced = prefix === true && !text.startsWith(' ') ? ` ${text}` : text;
    const words = regex === true ? (spaced.match(GPT2) ?? []) : [spaced];
    return words.map(toByteCharacters);
  };
}

function metaspace(part: Part): PreTokenize {
  const replacement = textOf(part.replacement ?? '▁', 'pre_tokenizer.replacement');
  // Older files have `add_prefix_space` instead of `prepend_scheme`.
  const scheme = part.prepend_scheme ?? (part.add_prefix_space === false ? 'never' : 'always');
  if (!['always', 'first', 'never'].includes(String(scheme)))
    throw unsupported('pre_tokenizer.prepend_scheme', scheme);
  const cut =
    part.split === false ? null : split(new RegExp(escaped(replacement), 'gu'), 'MergedWithNext', false);
  return (text, first) => {
    const marked = text.replaceAll(' ', replacement);
    const prepend = scheme === 'always' || (scheme === 'first' && first);
    const whole = prepend && !marked.startsWith(replacement) ? replacement + marked : marked;
    return cut === null ? [whole] : cut(whole, first);
  };
}

/** A match of the pattern, or the text between two matches. */
interface Piece {
  text: string;
  match: boolean;
}

function split(pattern: RegExp, behavior: unknown, invert: boolean): PreTokenize {
  const join = BEHAVIORS[String(behavior)];
  if (join === undefined) throw unsupported('pre_tokenizer.behavior', behavior);
  return (text) => join(pieces(text, pattern, invert)).filter((word) => word !== '');
}

function pieces(text: string, pattern: RegExp, invert: boolean): Piece[] {
  const found: Piece[] = [];
  let end = 0;
  for (const { 0: match, index } of text.matchAll(pattern)) {
    if (index > end) found.push({ text: text.slice(end, index), match: invert });
    if (match !== '') found.push({ text: match, match: !invert });
    end = index + match.length;
  }
  if (end < text.length) found.push({ text: text.slice(end), match: invert });
  return found;
}

const textsOf = (found: readonly Piece[]): string[] => found.map(({ text }) => text);

const BEHAVIORS: Readonly<Record<string, (found: readonly Piece[]) => string[]>> = {
  Isolated: textsOf,
  Removed: (found) => textsOf(found.filter(({ match }) => !match)),
  MergedWithPrevious: (found) => {
    const words: string[] = [];
    found.forEach(({ text, match }, i) => {
      // A match directly after another match becomes a separate word.
      if (match && i > 0 && !found[i - 1]!.match) words[words.length - 1] += text;
      else words.push(text);
    });
    return words;
  },
  MergedWithNext: (found) => {
    const words: string[] = [];
    found.forEach(({ text, match }, i) => {
      if (!match && i > 0 && found[i - 1]!.match) words[words.length - 1] += text;
      else words.push(text);
    });
    return words;
  },
  Contiguous: (found) => {
    const words: string[] = [];
    found.forEach(({ text, match }, i) => {
      if (i > 0 && found[i - 1]!.match === match) words[words.length - 1] += text;
      else words.push(text);
    });
    return words;
  },
};
