/** Computes log-probabilities of sequences that begin in the same way, each beginning once. */
import type { ModelBundle } from '../model-bundle.ts';
import { openDecodeSession } from './decode-session.ts';
import type { TokenSequence } from './encode.ts';
import type { Likelihood, ModelOptions } from './language-model.ts';
import { scoreSequences } from './score-sequences.ts';

/**
 * Tokens that sharing must save for each sequence. A run over a few tokens takes as long as one over this many, because it
 * reads all weights.
 */
const WORTHWHILE = 48;

/** Scores each sequence as `scoreSequences` does. Shares beginnings through the cache if this is faster. */
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
  // The cache also computes the last token of a sequence, which the model may have no position for.
  const isWorthwhile = saved / sequences.length >= WORTHWHILE && longest <= bundle.model.config.maxPositions;
  const session = isWorthwhile ? openDecodeSession(bundle, longest, sequences.length) : null;
  if (session === null) return scoreSequences(bundle, sequences, options);
  const { onProgress, signal = new AbortController().signal } = options;
  const results = new Array<Likelihood>(sequences.length);
  let done = 0;
  try {
    // Sequences with the same beginning are neighbours, so that the beginning is still in the cache.
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
