import type { PythonPattern } from '../python/regex.ts';

/** Options of `exact_match`. */
export interface ExactMatchOptions {
  /** Patterns whose matches are removed from both texts before the comparison, one pattern after the other. */
  readonly regexesToIgnore: readonly PythonPattern[];
  readonly ignoreCase: boolean;
  /** Whether ASCII punctuation is removed from both texts before the comparison. */
  readonly ignorePunctuation: boolean;
  /** Whether the digits 0 to 9 are removed from both texts before the comparison. */
  readonly ignoreNumbers: boolean;
}

/** Returns whether two texts are equal after the same normalisation. */
export function exactMatch(prediction: string, reference: string, options: ExactMatchOptions): boolean {
  return normalise(prediction, options) === normalise(reference, options);
}

function normalise(text: string, options: ExactMatchOptions): string {
  const { regexesToIgnore, ignoreCase, ignorePunctuation, ignoreNumbers } = options;
  let result = regexesToIgnore.reduce((rest, pattern) => pattern.removeAll(rest), text);
  if (ignoreCase) result = result.toLowerCase();
  if (ignorePunctuation) result = result.replace(/[!-/:-@[-`{-~]/g, '');
  return ignoreNumbers ? result.replace(/[0-9]/g, '') : result;
}
