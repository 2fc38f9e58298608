/** ROUGE (Lin 2004): the F-measures that rouge-score 0.1.2 computes without a stemmer. */
import { countNgrams, countShared } from './ngrams.ts';

export const ROUGE_TYPES = ['rouge1', 'rouge2', 'rougeL', 'rougeLsum'] as const;
export type RougeType = (typeof ROUGE_TYPES)[number];

/**
 * Returns the F-measure from 0 to 1. Only `rougeLsum` uses line breaks, which separate the sentences of a
 * text.
 */
export function rouge(type: RougeType, prediction: string, reference: string): number {
  if (type === 'rougeLsum') return summaryScore(sentences(prediction), sentences(reference));
  const [words, expected] = [tokens(prediction), tokens(reference)];
  if (type === 'rougeL') return fMeasure(commonLength(expected, words), words.length, expected.length);
  const order = type === 'rouge1' ? 1 : 2;
  const shared = countShared(countNgrams(expected, order), countNgrams(words, order));
  return fMeasure(shared, words.length - order + 1, expected.length - order + 1);
}

function tokens(text: string): string[] {
  return text
    .toLowerCase()
    .split(/[^a-z0-9]+/)
    .filter((word) => word !== '');
}

function sentences(text: string): string[][] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map(tokens);
}

function fMeasure(hits: number, predicted: number, expected: number): number {
  const precision = hits / Math.max(predicted, 1);
  const recall = hits / Math.max(expected, 1);
  return precision + recall > 0 ? (2 * precision * recall) / (precision + recall) : 0;
}

/** Returns the length of the longest common subsequence of each pair of prefixes, as [expected + 1][words + 1]. */
function commonTable(expected: readonly string[], words: readonly string[]): Uint32Array[] {
  const table = [new Uint32Array(words.length + 1)];
  for (let i = 1; i <= expected.length; i++) {
    const [above, row] = [table[i - 1]!, new Uint32Array(words.length + 1)];
    for (let j = 1; j <= words.length; j++) {
      row[j] = expected[i - 1] === words[j - 1] ? above[j - 1]! + 1 : Math.max(above[j]!, row[j - 1]!);
    }
    table.push(row);
  }
  return table;
}

function commonLength(expected: readonly string[], words: readonly string[]): number {
  return commonTable(expected, words).at(-1)!.at(-1)!;
}

/** Returns the positions in `expected` of one longest common subsequence. */
function commonPositions(expected: readonly string[], words: readonly string[]): number[] {
  const table = commonTable(expected, words);
  const positions: number[] = [];
  for (let i = expected.length, j = words.length; i > 0 && j > 0; ) {
    if (expected[i - 1] === words[j - 1]) {
      positions.push(i - 1);
      i--;
      j--;
    } else if (table[i]![j - 1]! > table[i - 1]![j]!) j--;
    else i--;
  }
  return positions;
}

/**
 * Scores a summary of several sentences. Each expected sentence contributes the union of its longest common
 * subsequences with all predicted sentences. A word counts at most as often as it occurs in each of the two texts.
 */
function summaryScore(predicted: readonly string[][], expected: readonly string[][]): number {
  const [words, expectedWords] = [predicted.flat(), expected.flat()];
  if (words.length === 0 || expectedWords.length === 0) return 0;
  const left = [countNgrams(words, 1), countNgrams(expectedWords, 1)];
  let hits = 0;
  for (const sentence of expected) {
    const union = new Set(predicted.flatMap((other) => commonPositions(sentence, other)));
    for (const position of [...union].sort((a, b) => a - b)) {
      const word = sentence[position]!;
      if (left.some((counts) => (counts.get(word) ?? 0) === 0)) continue;
      hits++;
      for (const counts of left) counts.set(word, counts.get(word)! - 1);
    }
  }
  return fMeasure(hits, words.length, expectedWords.length);
}
