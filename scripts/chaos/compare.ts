/** A checkpoint of a run. */
export interface Point {
  /** Number of tokens in the updates that were merged up to this checkpoint. */
  readonly tokens: number;
  /** Held-out loss; null if it was not measured. */
  readonly loss: number | null;
}

/** Held-out losses of two runs after about the same number of trained tokens. */
export interface Comparison {
  /** Number of trained tokens at the compared checkpoint of the run with faults. */
  readonly tokens: number;
  /** Numbers of checkpoints up to the compared one, in the run with faults and in the run without faults. */
  readonly checkpoints: readonly [number, number];
  /** Held-out loss of the run with faults. */
  readonly loss: number;
  /** Held-out loss of the run without faults. */
  readonly expected: number;
  /** By how much `loss` exceeds `expected`, as a fraction of `expected`. */
  readonly excess: number;
}

/**
 * Compares the newest checkpoint of a run with faults with the first checkpoint of a run without faults that has at least
 * as many trained tokens. Both must have a held-out loss. The runs are not compared after the same number of checkpoints, because the checkpoints of a
 * run whose nodes are killed contain fewer tokens.
 * @throws Error if a run has no suitable checkpoint
 */
export function compareLosses(run: readonly Point[], calm: readonly Point[]): Comparison {
  const last = run.findLastIndex(({ loss }) => loss !== null);
  if (last < 0) throw new Error('no checkpoint of the run with faults has a held-out loss');
  const { tokens, loss } = run[last]!;
  const other = calm.findIndex((point) => point.tokens >= tokens && point.loss !== null);
  if (other < 0) {
    throw new Error(`the run without faults trained ${calm.at(-1)?.tokens ?? 0} of ${tokens} tokens`);
  }
  const expected = calm[other]!.loss!;
  return {
    tokens,
    checkpoints: [last + 1, other + 1],
    loss: loss!,
    expected,
    excess: loss! / expected - 1,
  };
}
