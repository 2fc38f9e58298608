import { runInNewContext } from 'node:vm';
import { modelError } from './errors.ts';

/** Maximum length of a pattern in a job or an adapter file, in characters. */
export const MAX_PATTERN_LENGTH = 1024;

/**
 * Time limit for matching patterns against all module names, in milliseconds. Patterns are untrusted, and a few characters
 * can make a backtracking matcher run for years. A normal pattern takes under 1 ms; the limit allows for a busy machine,
 * since it is wall-clock time.
 */
export const PATTERN_TIMEOUT_MS = 1000;

/** Patterns that cannot backtrack, so they need no time limit. Most patterns are plain names. */
const PLAIN = /^[\w.]*$/;

/** The part of a name that a pattern must match. */
export type Extent =
  /** The whole name, as in Python's `re.fullmatch`. Used for `target_modules` and `exclude_modules`. */
  | 'whole'
  /** The whole name, or everything after one of its dots. Used for the keys of `rank_pattern` and `alpha_pattern`. */
  | 'end'
  /** One or more whole segments of the name, which dots separate. Used for the entries of `modules_to_save`. */
  | 'segments';

// These expressions are built as in PEFT (tuners_utils, utils/other). PEFT puts no group around a 'segments' pattern, so neither do we.
const SOURCES: Readonly<Record<Extent, (pattern: string) => string>> = {
  whole: (pattern) => `^(?:${pattern})$`,
  end: (pattern) => `^(.*\\.)?(${pattern})$`,
  segments: (pattern) => `^(?:(^|.*\\.)${pattern}($|\\..*))`,
};

/**
 * Returns, for each name, the index of the first pattern (a Python regular expression) that matches it, or −1.
 *
 * @param field where the patterns come from, for errors
 * @throws SwarmError LORA_PATTERN if a pattern is too long, malformed, or takes too long
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
        `a pattern of ${field} has ${pattern.length} characters (maximum ${MAX_PATTERN_LENGTH})`,
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
      `the patterns of ${field}, ${shown}, cannot be used: ${cause instanceof Error ? cause.message : cause}`,
      { field, patterns: [...patterns] },
      { cause },
    );
  }
}

/** Translates Python's named groups, back-references and text anchors to JavaScript's. */
function fromPython(pattern: string): string {
  return pattern
    .replaceAll('(?P<', '(?<')
    .replace(/\(\?P=(\w+)\)/g, '\\k<$1>')
    .replaceAll('\\A', '^')
    .replaceAll('\\Z', '$');
}
