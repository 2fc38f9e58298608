/** Computes log-probabilities of sequences. A prefix that several sequences share is computed once. */
import type { ModelBundle } from '../model-bundle.ts';
import { openDecodeSession } from './decode-session.ts';
import type { TokenSequence } from './encode.ts';
import type { Likelihood, ModelOptions } from './language-model.ts';
import { scoreSequences } from './score-sequences.ts';

/**
 * Prefixes are shared only if this saves the computation of at least this number of tokens per sequence. Saving fewer
 * tokens saves no time, because a run reads all weights, and therefore takes as long for a few tokens as for about 48.
 */
const WORTHWHILE = 48;

/**
 * Scores sequences as `scoreSequences` does. Shares prefixes through the cache of keys and values if this is faster.
 */
export async function likelihoodsOf(
  bundle: ModelBundle,
  sequences: readonly TokenSequence[],
  options: ModelOptions = {},
): Promise<Likelihood[]> {
  const order = [...sequences.keys()].sort((a, b) => compare(sequences[a]!.ids, sequences[b]!.ids));
  const saved = order.reduce((sum, index, i) => {
    const before = order[i - 1];
    return before === undefined ? sum : sum + commonLength(sequences[before]!.ids, sequences[index]!.ids);
  }, 0);
  const longest = sequences.reduce((most, { ids }) => Math.max(most, ids.length), 0);
  // With the cache, the last token of a sequence is computed too, so the model must have a position for it.
  const isWorthwhile = saved / sequences.length >= WORTHWHILE && longest <= bundle.model.config.maxPositions;
  const session = isWorthwhile ? openDecodeSession(bundle, longest, sequences.length) : null;
  if (session === null) return scoreSequences(bundle, sequences, options);
  const { onProgress, signal = new AbortController().signal } = options;
  const results = new Array<Likelihood>(sequences.length);
  let done = 0;
  try {
    // In this order, sequences with the same prefix follow each other, so the prefix is still in the cache.
    await Promise.all(
      order.map(async (index) => {
        const { ids, from } = sequences[index]!;
        const request = { tokens: ids, from, top: 1, adapter: session.adapter, client: '' };
        const scored = (await session.scheduler.score(request, signal)).slice(from);
        results[index] = {
          logLikelihood: scored.reduce((sum, { logprob }) => sum + logprob!, 0),
          isGreedy: scored.every(({ logprob, top }) => logprob === top![0]!.logprob),
        };
        onProgress?.(++done);
      }),
    );
  } finally {
    await session.dispose();
  }
  return results;
}

function compare(a: readonly number[], b: readonly number[]): number {
  const common = commonLength(a, b);
  return common < Math.min(a.length, b.length) ? a[common]! - b[common]! : a.length - b.length;
}

function commonLength(a: readonly number[], b: readonly number[]): number {
  const end = Math.min(a.length, b.length);
  let length = 0;
  while (length < end && a[length] === b[length]) length++;
  return length;
}
