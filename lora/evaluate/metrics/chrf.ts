/**
 * Corpus chrF (Popović 2015) and chrF++ (2017) as sacrebleu 2.6.0 computes them: character n-grams up to 6 without white
 * space, for chrF++ also word n-grams up to 2, and recall weighted by β = 2.
 */

import { splitWords } from '../python/text.ts';
import { countNgrams, countShared } from './ngrams.ts';

const CHARACTER_ORDER = 6;
const BETA_SQUARED = 4;
/** ASCII punctuation, as in Python's `string.punctuation`. */
const PUNCTUATION = new Set('!"#$%&\'()*+,-./:;<=>?@[\\]^_`{|}~');

/**
 * Counts the n-grams of each order in the prediction, in the reference and in both. The counts of a corpus are the sums
 * of the counts of its texts.
 */
export function chrfCounts(prediction: string, reference: string, wordOrder: number): Int32Array {
  const counts = new Int32Array(3 * (CHARACTER_ORDER + wordOrder));
  const add = (index: number, left: readonly string[], right: readonly string[], order: number): void => {
    const [a, b] = [countNgrams(left, order), countNgrams(right, order)];
    const expected = Math.max(0, right.length - order + 1);
    counts[3 * index] = expected === 0 ? 0 : Math.max(0, left.length - order + 1);
    counts[3 * index + 1] = expected;
    counts[3 * index + 2] = countShared(a, b);
  };
  const [characters, expected] = [prediction, reference].map((text) => [...splitWords(text).join('')]);
  for (let order = 1; order <= CHARACTER_ORDER; order++) add(order - 1, characters!, expected!, order);
  const [words, expectedWords] = [prediction, reference].map(wordsAndPunctuation);
  for (let order = 1; order <= wordOrder; order++) {
    add(CHARACTER_ORDER + order - 1, words!, expectedWords!, order);
  }
  return counts;
}

/** Returns the chrF score of a corpus, from 0 to 100. @param counts the sum of the counts of its texts */
export function chrfScore(counts: ArrayLike<number>): number {
  let precision = 0;
  let recall = 0;
  let orders = 0;
  for (let i = 0; i < counts.length; i += 3) {
    const [predicted, expected, shared] = [counts[i]!, counts[i + 1]!, counts[i + 2]!];
    if (predicted === 0 || expected === 0) continue;
    precision += shared / predicted;
    recall += shared / expected;
    orders++;
  }
  if (orders === 0 || precision + recall === 0) return 0;
  precision /= orders;
  recall /= orders;
  const product = (1 + BETA_SQUARED) * precision * recall;
  return 100 * (product / (BETA_SQUARED * precision + recall));
}

/**
 * Splits a text into words. Splits one punctuation character off the end of a word or, if there is none, off its
 * start.
 */
function wordsAndPunctuation(text: string): string[] {
  return splitWords(text).flatMap((word) => {
    const characters = [...word];
    if (characters.length === 1) return [word];
    const [first, last] = [characters[0]!, characters.at(-1)!];
    if (PUNCTUATION.has(last)) return [word.slice(0, -1), last];
    return PUNCTUATION.has(first) ? [first, word.slice(1)] : [word];
  });
}
