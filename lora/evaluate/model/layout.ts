/** Lays out token sequences in rows of equal length, so that one graph computes many of them at once. */
import type { TokenSequence } from './encode.ts';

/** Sequences that share one forward pass: the inputs of all are the beginning of the longest one's. */
export interface Piece {
  /** Input tokens. */
  readonly ids: readonly number[];
  /** Numbers of the sequences. */
  readonly members: readonly number[];
}

export interface PlacedPiece {
  readonly piece: Piece;
  readonly row: number;
  /** Position of its first token in the row. */
  readonly start: number;
}

/**
 * Groups sequences whose inputs are equal, or of which one is the beginning of another. They can share a forward pass,
 * because the logits of a position depend only on the tokens up to it. For example, the choices of a question have equal
 * inputs if each choice has one token, so they become one piece.
 */
export function sharedPieces(sequences: readonly TokenSequence[]): Piece[] {
  const inputs = sequences.map(({ ids }) => ids.slice(0, -1));
  // In descending order, every input comes right after one that it is the beginning of, if there is one.
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

/** Places pieces in rows of `length` tokens: each in the first row that has enough places left, longest pieces first. */
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
      // Full rows at the front need not be looked at again.
      while (firstOpen < free.length && free[firstOpen] === 0) firstOpen++;
      return { piece, row, start };
    })
    .sort((a, b) => a.row - b.row || a.start - b.start);
}
