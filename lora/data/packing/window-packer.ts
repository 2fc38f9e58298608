import type { Row } from '../row.ts';
import { layOut, MAX_PIECES, type Piece } from './pieces.ts';

/** Number of tokens per window. A token takes 8 bytes, for its id and its label, so a window takes 8 MiB. */
const WINDOW_TOKENS = 2 ** 20;
/**
 * Minimum number of rows per window. If rows are long, a window of WINDOW_TOKENS has too few rows to fill them well.
 */
const WINDOW_ROWS = 32;

interface CompactPiece {
  readonly ids: Int32Array;
  readonly labels: Int32Array;
}

interface OpenRow {
  readonly pieces: CompactPiece[];
  free: number;
}

/**
 * Packs pieces by best fit decreasing (Johnson 1974), one window of the stream at a time. Pieces are collected until a
 * window of 1,048,576 tokens (or of 32 rows, if that is more) is full. Then they are placed from the longest to the
 * shortest, each into the fullest row that still has room for it.
 *
 * Rows are yielded in the order in which they were started. The same pieces in the same order give the same rows.
 */
export class WindowPacker {
  readonly #length: number;
  readonly #window: number;
  #waiting: CompactPiece[] = [];
  #tokens = 0;

  constructor({ sequenceLength, windowTokens }: { sequenceLength: number; windowTokens?: number }) {
    this.#length = sequenceLength;
    this.#window = windowTokens ?? Math.max(WINDOW_TOKENS, WINDOW_ROWS * sequenceLength);
  }

  /** Adds a piece of at most one row. Yields the rows of the window if it is full. */
  *addPiece({ ids, labels }: Piece): Generator<Row> {
    this.#waiting.push({ ids: Int32Array.from(ids), labels: Int32Array.from(labels) });
    this.#tokens += ids.length;
    if (this.#tokens >= this.#window) yield* this.finish();
  }

  /** Packs the last, incomplete window. */
  *finish(): Generator<Row> {
    const pieces = this.#waiting.sort((a, b) => b.ids.length - a.ids.length);
    this.#waiting = [];
    this.#tokens = 0;
    for (const row of bestFit(pieces, this.#length)) yield layOut(row.pieces, this.#length);
  }
}

function bestFit(pieces: readonly CompactPiece[], length: number): OpenRow[] {
  const rows: OpenRow[] = [];
  // `byRoom` maps each number of free tokens to the open rows that have it. `rooms` finds the smallest such
  // number that is large enough for a piece.
  const byRoom = new Map<number, OpenRow[]>();
  const rooms = new RoomTree(length);
  const put = (row: OpenRow): void => {
    if (row.free === 0 || row.pieces.length === MAX_PIECES) return;
    const same = byRoom.get(row.free);
    if (same === undefined || same.length === 0) rooms.set(row.free, true);
    if (same === undefined) byRoom.set(row.free, [row]);
    else same.push(row);
  };
  for (const piece of pieces) {
    const room = rooms.atLeast(piece.ids.length);
    let row: OpenRow | undefined;
    if (room !== null) {
      const same = byRoom.get(room)!;
      row = same.pop();
      if (same.length === 0) rooms.set(room, false);
    }
    if (row === undefined) {
      row = { pieces: [], free: length };
      rows.push(row);
    }
    row.pieces.push(piece);
    row.free -= piece.ids.length;
    put(row);
  }
  return rows;
}

/**
 * A set of whole numbers from 1 to `size`, as a binary tree of counts. `atLeast(n)` finds the smallest member
 * of the set that is n or greater, in logarithmic time.
 */
class RoomTree {
  readonly #leaves: number;
  readonly #counts: Int32Array;

  constructor(size: number) {
    this.#leaves = 2 ** Math.ceil(Math.log2(size + 1));
    this.#counts = new Int32Array(2 * this.#leaves);
  }

  set(member: number, present: boolean): void {
    for (let node = this.#leaves + member; node >= 1; node >>= 1) this.#counts[node]! += present ? 1 : -1;
  }

  atLeast(least: number): number | null {
    let node = this.#leaves + least;
    if (this.#counts[node]! > 0) return least;
    // Goes up to the first node whose right sibling has a member, then down to the smallest member of that sibling.
    while (node > 1 && (node % 2 === 1 || this.#counts[node + 1] === 0)) node >>= 1;
    if (node <= 1) return null;
    node++;
    while (node < this.#leaves) node = this.#counts[2 * node]! > 0 ? 2 * node : 2 * node + 1;
    return node - this.#leaves;
  }
}
