/** Samples that are longer than a row. */
export const TRUNCATIONS = ['auto', 'shorten', 'keep-start', 'keep-end', 'drop', 'split'] as const;
/**
 * What happens to a sample that does not fit a row. `shorten` takes away what is not trained first and never all
 * that is; `keep-start` and `keep-end` cut blindly, as TRL's modes do; `drop` leaves it out; `split` makes several
 * pieces of it. `auto`: plain text is split, everything else shortened.
 */
export type Truncation = (typeof TRUNCATIONS)[number];

export interface Sample {
  readonly ids: readonly number[];
  /** [ids.length] 1 where the token is trained. */
  readonly trained: Uint8Array;
}

/** Share of a row that stays with the prompt when prompt and answer are both too long. */
const CONTEXT_SHARE = 1 / 4;

/**
 * A sample of at most `limit` tokens; null where the mode leaves it out.
 *
 * `shorten`, until it fits: the end after the last trained token goes; then the middle of what is before the first
 * trained one (its two ends hold the instructions and the question) down to a quarter of the limit; then the end.
 * A seam lies between two tokens that are not trained, so nothing is predicted across it.
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
  // The first token of all is never predicted, so it is none of the answer.
  const first = trained.indexOf(1, 1);
  const prompt = first < 0 ? ids.length : first;
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
