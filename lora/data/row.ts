import { dataError } from './errors.ts';

/** Label of a position that the loss does not count; the value that Hugging Face uses. */
export const IGNORED_LABEL = -100;

/** A packed row: T tokens that training reads as one unit. */
export interface Row {
  /** [T] input tokens; 0 in padding. */
  readonly ids: Uint32Array;
  /** [T] number of the packed piece that the token belongs to, counted from 1; 0 in padding. */
  readonly segments: Uint16Array;
  /**
   * [T] the token after each input token (already shifted by one), or `IGNORED_LABEL` where no token is
   * predicted.
   */
  readonly labels: Int32Array;
}

/** Returns a row of padding, which fills up the last micro-batch. */
export function emptyRow(sequenceLength: number): Row {
  return {
    ids: new Uint32Array(sequenceLength),
    segments: new Uint16Array(sequenceLength),
    labels: new Int32Array(sequenceLength).fill(IGNORED_LABEL),
  };
}

/** Returns the number of labels in a row that the loss counts. */
export function predictedTokens(row: Row): number {
  let count = 0;
  for (const label of row.labels) if (label !== IGNORED_LABEL) count++;
  return count;
}

/**
 * Checks the token ids of a row. Rows arrive from other machines, and an engine may read past the end of the embedding
 * when an id is too large.
 * @throws ROW_TOKEN if an id or label is not below `vocabulary`
 */
export function checkTokens({ ids, labels }: Row, vocabulary: number): void {
  const bad = ids.find((id) => id >= vocabulary) ?? labels.find((label) => label >= vocabulary);
  if (bad !== undefined) {
    throw dataError(
      'ROW_TOKEN',
      `a row contains token ${bad}, but the model has a vocabulary of ${vocabulary} tokens`,
      { token: bad, vocabulary },
    );
  }
}

/** @throws PACK_LENGTH if a row is too short to hold one prediction and its context */
export function checkRowLength(sequenceLength: number): void {
  if (Number.isInteger(sequenceLength) && sequenceLength >= 2) return;
  throw dataError('PACK_LENGTH', `a row cannot have ${sequenceLength} tokens; the minimum is 2`, {
    sequenceLength,
  });
}
