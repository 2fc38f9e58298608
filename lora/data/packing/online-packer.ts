import { checkRowLength, type Row } from '../row.ts';
import { cutSequence, layOut, MAX_PIECES, type Piece } from './pieces.ts';

export interface PackOptions {
  /** Number of tokens in a row (T). */
  sequenceLength: number;
  /** First token of the later pieces of a sample that is split; see `CutOptions.restart`. @default null */
  restart?: number | null;
}

/**
 * Maximum number of open rows that wait for a fitting piece. With more open rows, rows are filled better, but packing
 * takes more memory and time.
 */
const OPEN_ROWS = 256;

interface OpenRow {
  readonly pieces: Piece[];
  free: number;
}

/**
 * Packs pieces in the order in which they arrive. Each piece goes into the fullest open row that still has room for it
 * (online best fit).
 */
export class OnlinePacker {
  readonly #length: number;
  readonly #restart: number | null;
  readonly #open = new Set<OpenRow>();
  readonly #pieces = new WeakMap<Row, readonly Piece[]>();

  /** @throws PACK_LENGTH if the row length is not an integer ≥ 2 */
  constructor({ sequenceLength, restart = null }: PackOptions) {
    checkRowLength(sequenceLength);
    this.#length = sequenceLength;
    this.#restart = restart;
  }

  /** Cuts a sequence into pieces and packs them. Yields the rows that became full. */
  *add(sequence: readonly number[]): Generator<Row> {
    const length = this.#length;
    const restart = this.#restart;
    for (const piece of cutSequence(sequence, null, { length, restart })) yield* this.addPiece(piece);
  }

  /** Packs one piece. Yields a row if one became full, or if too many rows were open. */
  *addPiece(piece: Piece): Generator<Row> {
    const size = piece.ids.length;
    const row = this.#tightest(size) ?? { pieces: [], free: this.#length };
    if (row.pieces.length === 0) this.#open.add(row);
    row.pieces.push(piece);
    row.free -= size;
    if (row.free === 0 || row.pieces.length === MAX_PIECES) yield this.#close(row);
    else if (this.#open.size > OPEN_ROWS) yield this.#close(this.#tightest(0)!);
  }

  /** Yields the rows that are still open. */
  *finish(): Generator<Row> {
    for (const row of this.#open) yield this.#close(row);
  }

  /** Returns the pieces of a row that this packer made, in the order of the row's segments. */
  piecesOf(row: Row): readonly Piece[] {
    return this.#pieces.get(row) ?? [];
  }

  /**
   * Returns the open row with the least free space that still fits `size` tokens. If several rows have the same free
   * space, returns the oldest.
   */
  #tightest(size: number): OpenRow | undefined {
    let best: OpenRow | undefined;
    for (const row of this.#open) {
      if (row.free >= size && (best === undefined || row.free < best.free)) best = row;
    }
    return best;
  }

  #close(row: OpenRow): Row {
    this.#open.delete(row);
    const closed = layOut(row.pieces, this.#length);
    this.#pieces.set(closed, row.pieces);
    return closed;
  }
}
