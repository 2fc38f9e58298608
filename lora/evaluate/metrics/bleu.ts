/**
 * Corpus BLEU (Papineni et al. 2002) as sacrebleu 2.6.0 computes it by default: tokenizer 13a, n-grams up to 4 words, and
 * exponential smoothing of orders without a match.
 */

import { splitWords, stripEnd } from '../python/text.ts';
import { countNgrams, countShared } from './ngrams.ts';

const MAX_ORDER = 4;
/** Number that sacrebleu uses as the logarithm of a precision of zero. */
const LOG_OF_ZERO = -9999999999;

/**
 * Counts of a text: words of the prediction and of the reference, then matching and total n-grams of each
 * order. The counts of a corpus are the sums of the counts of its texts.
 */
export type BleuCounts = Int32Array;

export const BLEU_COUNTS = 2 + 2 * MAX_ORDER;

/** Returns the BLEU counts of one prediction and its reference. */
export function bleuCounts(prediction: string, reference: string): BleuCounts {
  const words = tokenize13a(prediction);
  const expected = tokenize13a(reference);
  const counts = new Int32Array(BLEU_COUNTS);
  counts[0] = words.length;
  counts[1] = expected.length;
  for (let order = 1; order <= MAX_ORDER; order++) {
    counts[1 + order] = countShared(countNgrams(words, order), countNgrams(expected, order));
    counts[1 + MAX_ORDER + order] = Math.max(0, words.length - order + 1);
  }
  return counts;
}

/** Returns the BLEU score of a corpus, from 0 to 100. @param counts the sum of the counts of its texts */
export function bleuScore(counts: ArrayLike<number>): number {
  const [words, expected] = [counts[0]!, counts[1]!];
  let smoothing = 1;
  let matches = 0;
  const logs = new Array<number>(MAX_ORDER).fill(LOG_OF_ZERO);
  for (let order = 1; order <= MAX_ORDER; order++) matches += counts[1 + order]!;
  if (matches === 0) return 0;
  for (let order = 1; order <= MAX_ORDER; order++) {
    const matching = counts[1 + order]!;
    const total = counts[1 + MAX_ORDER + order]!;
    if (total === 0) break;
    if (matching === 0) smoothing *= 2;
    logs[order - 1] = Math.log(matching === 0 ? 100 / (smoothing * total) : (100 * matching) / total);
  }
  const brevity = words < expected ? (words > 0 ? Math.exp(1 - expected / words) : 0) : 1;
  return brevity * Math.exp(logs.reduce((sum, log) => sum + log, 0) / MAX_ORDER);
}

const ENTITIES: readonly (readonly [string, string])[] = [
  ['&quot;', '"'],
  ['&amp;', '&'],
  ['&lt;', '<'],
  ['&gt;', '>'],
];

/** The tokenizer of the WMT script mteval-v13a. */
export function tokenize13a(text: string): string[] {
  let line = stripEnd(text).replaceAll('<skipped>', '').replaceAll('-\n', '').replaceAll('\n', ' ');
  if (line.includes('&'))
    for (const [entity, character] of ENTITIES) line = line.replaceAll(entity, character);
  const separated = ` ${line} `
    .replace(/([{-~[-` -&(-+:-@/])/g, ' $1 ')
    .replace(/([^0-9])([.,])/gu, '$1 $2 ')
    .replace(/([.,])([^0-9])/gu, ' $1 $2')
    .replace(/([0-9])(-)/g, '$1 $2 ');
  return splitWords(separated);
}
