import { runInNewContext } from 'node:vm';
import { modelError } from './errors.ts';

/** Longest pattern taken from a job or an adapter file, in characters. */
export const MAX_PATTERN_LENGTH = 1024;

/**
 * Time for matching patterns against all module names, in milliseconds. Patterns come from strangers, and
 * a few characters are enough to make a backtracking matcher run for years. An honest one needs under 1 ms, but the
 * clock also runs while others have the processor.
 */
export const PATTERN_TIMEOUT_MS = 1000;

/** Without repetition and choice a pattern is matched in one go: most are just names. */
const PLAIN = /^[\w.]*$/;

/** How much of a name a pattern has to match. */
export type Extent =
  /** Python's `re.fullmatch`. */
  | 'whole'
  /** The end of the name behind a dot, or all of it: the keys of `rank_pattern` and `alpha_pattern`. */
  | 'end'
  /** Whole path segments anywhere, and what lies below them: what `modules_to_save` keeps from being a target. */
  | 'segments';

// As PEFT puts them together (peft tuners_utils, utils/other): with no group of its own around a 'segments' pattern.
const SOURCES: Readonly<Record<Extent, (pattern: string) => string>> = {
  whole: (pattern) => `^(?:${pattern})$`,
  end: (pattern) => `^(.*\\.)?(${pattern})$`,
  segments: (pattern) => `^(?:(^|.*\\.)${pattern}($|\\..*))`,
};

/**
 * For each name the number of the first of Python's regular expressions that matches it, or −1.
 *
 * @param field what the patterns are, for errors
 * @throws SwarmError LORA_PATTERN a pattern is too long, malformed, or takes too long
 */
export function firstMatches(
  field: string,
  names: readonly string[],
  patterns: readonly string[],
  extent: Extent,
): number[] {
  if (patterns.length === 0) return names.map(() => -1);
  for (const pattern of patterns) {
    if (pattern.length > MAX_PATTERN_LENGTH)
      throw modelError(
        'LORA_PATTERN',
        `a pattern of ${field} has ${pattern.length} characters, at most ${MAX_PATTERN_LENGTH} are taken; use a list of module names`,
        { field, length: pattern.length, limit: MAX_PATTERN_LENGTH },
      );
  }
  const sources = patterns.map((pattern) => SOURCES[extent](fromPython(pattern)));
  if (patterns.every((pattern) => PLAIN.test(pattern))) {
    const plain = sources.map((source) => new RegExp(source));
    return names.map((name) => plain.findIndex((pattern) => pattern.test(name)));
  }
  try {
    return runInNewContext(
      `const patterns = sources.map((source) => new RegExp(source));
       names.map((name) => patterns.findIndex((pattern) => pattern.test(name)))`,
      { names: [...names], sources },
      { timeout: PATTERN_TIMEOUT_MS },
    ) as number[];
  } catch (cause) {
    const shown = patterns.map((pattern) => JSON.stringify(pattern)).join(', ');
    throw modelError(
      'LORA_PATTERN',
      `${field} ${shown} cannot be used: ${cause instanceof Error ? cause.message : cause}; use module names`,
      { field, patterns: [...patterns] },
      { cause },
    );
  }
}

/** Python's spellings of a named group, a back-reference to it, and the ends of the text. */
function fromPython(pattern: string): string {
  return pattern
    .replaceAll('(?P<', '(?<')
    .replace(/\(\?P=(\w+)\)/g, '\\k<$1>')
    .replaceAll('\\A', '^')
    .replaceAll('\\Z', '$');
}
