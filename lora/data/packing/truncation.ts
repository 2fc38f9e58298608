export const TRUNCATIONS = ['auto', 'shorten', 'keep-start', 'keep-end', 'drop', 'split'] as const;
/**
 * Treatment of a sample that does not fit into a row:
 * - `shorten`: remove unsupervised tokens first; at least one supervised token always stays
 * - `keep-start`, `keep-end`: keep the start or the end of the sample. As in TRL, the rest is cut off even if it
 *   contains supervised tokens.
 * - `drop`: leave the sample out
 * - `split`: split the sample into several pieces
 * - `auto`: `split` for plain text, `shorten` for everything else
 */
export type Truncation = (typeof TRUNCATIONS)[number];

/** An example as tokens, with a mask that marks the supervised tokens. */
export interface Sample {
  readonly ids: readonly number[];
  /** 1 for each supervised token, 0 for all others; as long as `ids`. */
  readonly trained: Uint8Array;
}

/**
 * Minimum share of a row that `shorten` keeps for the prompt. If the prompt has been cut to this share and
 * the sample is still too long, `shorten` cuts the end of the sample.
 */
const CONTEXT_SHARE = 1 / 4;

/**
 * Truncates a sample to at most `limit` tokens. Returns null if the mode leaves the sample out.
 *
 * `shorten` removes tokens until the sample fits, in this order:
 * 1. tokens after the last supervised token
 * 2. tokens in the middle of the prompt, down to a quarter of the limit, because the two ends of a prompt usually hold
 *    the instructions and the question
 * 3. tokens at the end of the sample
 *
 * A cut in the prompt lies between two unsupervised tokens, so no supervised token is predicted across the cut.
 */
export function truncate(
  sample: Sample,
  limit: number,
  mode: Exclude<Truncation, 'auto' | 'split'>,
): Sample | null {
  const { length } = sample.ids;
  if (length <= limit) return sample;
  switch (mode) {
    case 'drop':
      return null;
    case 'keep-start':
      return slice(sample, 0, limit);
    case 'keep-end':
      return slice(sample, length - limit, length);
    case 'shorten':
      return shorten(sample, limit);
  }
}

function shorten(sample: Sample, limit: number): Sample {
  const { ids, trained } = sample;
  const end = Math.max(limit, trained.lastIndexOf(1) + 1);
  // The first token is never predicted, so it does not belong to the answer.
  const first = trained.indexOf(1, 1);
  const prompt = first < 0 ? end : first;
  const context = Math.min(prompt, Math.max(1, Math.floor(limit * CONTEXT_SHARE)));
  const kept = Math.max(context, prompt - (end - limit));
  const head = Math.floor(kept / 2);
  const from = prompt - (kept - head);
  const to = Math.min(end, from + limit - head);
  return {
    ids: [...ids.slice(0, head), ...ids.slice(from, to)],
    trained: Uint8Array.from([...trained.subarray(0, head), ...trained.subarray(from, to)]),
  };
}

function slice({ ids, trained }: Sample, from: number, to: number): Sample {
  return { ids: ids.slice(from, to), trained: trained.subarray(from, to) };
}
