/** Lays out token sequences in rows of equal length, so that one graph computes many of them at once. */
import type { TokenSequence } from './encode.ts';

/** Sequences that share one forward pass, because the input of each is a prefix of the longest input. */
export interface Piece {
  /** Tokens of the longest input. */
  readonly ids: readonly number[];
  /** Indices of the sequences in the list that was passed to `sharedPieces`. */
  readonly members: readonly number[];
}

export interface PlacedPiece {
  readonly piece: Piece;
  readonly row: number;
  /** Position of the piece's first token in the row. */
  readonly start: number;
}

/**
 * Groups sequences whose inputs are equal or prefixes of each other. Such sequences can share a forward pass, because
 * the logits of a position depend only on the tokens up to it. For example, if each choice of a question has one token,
 * the sequences of all choices have the same input and become one piece.
 */
export function sharedPieces(sequences: readonly TokenSequence[]): Piece[] {
  const inputs = sequences.map(({ ids }) => ids.slice(0, -1));
  // The inputs are sorted in descending order. An input that is a prefix of others then comes directly after them, so it
  // only has to be compared with the last piece.
  const order = [...inputs.keys()].sort((a, b) => compare(inputs[b]!, inputs[a]!) || a - b);
  const pieces: { ids: readonly number[]; members: number[] }[] = [];
  for (const index of order) {
    const ids = inputs[index]!;
    const last = pieces.at(-1);
    if (last !== undefined && ids.every((id, i) => id === last.ids[i])) last.members.push(index);
    else pieces.push({ ids, members: [index] });
  }
  return pieces;
}

function compare(a: readonly number[], b: readonly number[]): number {
  for (let i = 0; i < Math.min(a.length, b.length); i++) {
    if (a[i] !== b[i]) return a[i]! - b[i]!;
  }
  return a.length - b.length;
}

/** Places pieces in rows of `length` tokens, longest pieces first. A piece goes to the first row with enough space. */
export function placePieces(pieces: readonly Piece[], length: number): PlacedPiece[] {
  const free: number[] = [];
  let firstOpen = 0;
  return [...pieces]
    .sort((a, b) => b.ids.length - a.ids.length)
    .map((piece) => {
      const size = piece.ids.length;
      let row = firstOpen;
      while (row < free.length && free[row]! < size) row++;
      if (row === free.length) free.push(length);
      const start = length - free[row]!;
      free[row]! -= size;
      // The search for a row skips the full rows at the front.
      while (firstOpen < free.length && free[firstOpen] === 0) firstOpen++;
      return { piece, row, start };
    })
    .sort((a, b) => a.row - b.row || a.start - b.start);
}
