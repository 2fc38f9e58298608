/**
 * Cuts token sequences into pieces and lays the pieces out in rows.
 *
 * In a sequence s0 … sm, the tokens s1 … sm are predicted, each in exactly one piece. A piece predicts at most T of
 * them, where T is the number of tokens in a row. The first input token of a piece is the token before its first
 * predicted token, or a new beginning-of-text token (see `CutOptions.restart`). Pieces shorter than a row share rows.
 * Each piece is a separate segment, in which attention and positions restart.
 */

import { emptyRow, IGNORED_LABEL, type Row } from '../row.ts';

/** Maximum number of pieces in a row: the largest number that `Row.segments` can hold. */
export const MAX_PIECES = 0xffff;

/** A part of a sequence. It has no more input tokens than fit into a row. */
export interface Piece {
  readonly ids: readonly number[];
  /** The token after each input token, or `IGNORED_LABEL`. */
  readonly labels: readonly number[];
}

export interface CutOptions {
  /** Maximum number of input tokens in a piece. */
  length: number;
  /**
   * First input token of every piece after the first piece. It is the beginning-of-text token for models that
   * saw this token at the start of every text in pre-training. If null, a piece begins with the last token of
   * the piece before it. @default null
   */
  restart?: number | null;
}

/**
 * Cuts a sequence into pieces that predict every token after the first exactly once.
 *
 * @param trained 1 or 0 for each token; tokens with 0 get no label. null if all tokens are supervised
 */
export function* cutSequence(
  sequence: readonly number[],
  trained: Uint8Array | null,
  { length, restart = null }: CutOptions,
): Generator<Piece> {
  for (let start = 1; start < sequence.length; start += length) {
    const targets = sequence.slice(start, start + length);
    const ids = sequence.slice(start - 1, start - 1 + targets.length);
    if (start > 1 && restart !== null) ids[0] = restart;
    const labels =
      trained === null ? targets : targets.map((id, i) => (trained[start + i] === 1 ? id : IGNORED_LABEL));
    yield { ids, labels };
  }
}

/** Makes a row of pieces that together have at most `length` tokens. Each piece becomes a segment. */
export function layOut(
  pieces: readonly { readonly ids: ArrayLike<number>; readonly labels: ArrayLike<number> }[],
  length: number,
): Row {
  const row = emptyRow(length);
  let offset = 0;
  for (const [index, { ids, labels }] of pieces.entries()) {
    row.ids.set(ids, offset);
    row.labels.set(labels, offset);
    row.segments.fill(index + 1, offset, offset + ids.length);
    offset += ids.length;
  }
  return row;
}
