/**
 * Rounds a weight matrix to whole numbers of 4 or 8 bits with one scale for every square tile. A tile is a block of a
 * row of W and, turned, a block of a row of Wᵀ: both copies stand for exactly the same numbers, so that a backward pass
 * through Wᵀ is the gradient of the forward pass through W.
 */

/** Bits per weight of a base that is rounded. */
export type QuantisedBits = 4 | 8;

/**
 * Side of a tile, in weights. The kernels take blocks of 16 to 256 in powers of two. Larger ones are faster and have
 * fewer scales, and an outlier coarsens more weights around it: at 8 bits there is room for that, at 4 there is not.
 */
export const TILE_SIDE: Readonly<Record<QuantisedBits, number>> = { 4: 32, 8: 64 };

/** Tried as scale at 4 bits, relative to the one that reaches the largest weight: giving that one up may cost less. */
const FOUR_BIT_SCALES = [1, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7];

/** One copy of a matrix [rows, columns]: rows × blocks, each of `side` numbers of a row. */
export interface Blocks {
  /** Number plus half the range; at 4 bits two in a byte, the first one in its lower half. [rows, blocks, side·bits/8] */
  readonly codes: Uint8Array;
  /** [rows, blocks] */
  readonly scales: Float32Array;
}

export interface QuantisedMatrix {
  readonly plain: Blocks;
  readonly transposed: Blocks;
}

/** Blocks of a row, and bytes of each, in a copy whose rows have `width` numbers. */
export function blockLayout(width: number, bits: QuantisedBits): { blocks: number; bytes: number } {
  return { blocks: Math.ceil(width / TILE_SIDE[bits]), bytes: (TILE_SIDE[bits] * bits) / 8 };
}

/** Takes a matrix [rows, columns] piece by piece in row-major order and holds the rounded copies, not the matrix. */
export class MatrixQuantiser {
  readonly #rows: number;
  readonly #columns: number;
  readonly #bits: QuantisedBits;
  readonly #plain: Blocks;
  readonly #transposed: Blocks;
  /** As many rows as a tile is high. */
  readonly #band: Float32Array;
  #filled = 0;
  #row = 0;

  constructor(rows: number, columns: number, bits: QuantisedBits) {
    this.#rows = rows;
    this.#columns = columns;
    this.#bits = bits;
    this.#plain = emptyBlocks(rows, columns, bits);
    this.#transposed = emptyBlocks(columns, rows, bits);
    this.#band = new Float32Array(Math.min(rows, TILE_SIDE[bits]) * columns);
  }

  add(values: Float32Array): void {
    for (let taken = 0; taken < values.length; ) {
      const rowsLeft = Math.min(TILE_SIDE[this.#bits], this.#rows - this.#row);
      const count = Math.min(values.length - taken, rowsLeft * this.#columns - this.#filled);
      this.#band.set(values.subarray(taken, taken + count), this.#filled);
      taken += count;
      this.#filled += count;
      if (this.#filled === rowsLeft * this.#columns) this.#finishBand(rowsLeft);
    }
  }

  /** After the last piece. */
  finish(): QuantisedMatrix {
    return { plain: this.#plain, transposed: this.#transposed };
  }

  #finishBand(height: number): void {
    const side = TILE_SIDE[this.#bits];
    const tile = new Float32Array(height * side);
    for (let column = 0; column < this.#columns; column += side) {
      const width = Math.min(side, this.#columns - column);
      for (let r = 0; r < height; r++) {
        const start = r * this.#columns + column;
        tile.set(this.#band.subarray(start, start + width), r * width);
      }
      this.#writeTile(tile.subarray(0, height * width), column, width);
    }
    this.#row += height;
    this.#filled = 0;
  }

  #writeTile(tile: Float32Array, column: number, width: number): void {
    const bits = this.#bits;
    const side = TILE_SIDE[bits];
    const scale = bestScale(tile, bits);
    const blockOfRow = column / side;
    const blockOfColumn = this.#row / side;
    const across = blockLayout(this.#columns, bits);
    const down = blockLayout(this.#rows, bits);
    const height = tile.length / width;
    for (let r = 0; r < height; r++) this.#plain.scales[(this.#row + r) * across.blocks + blockOfRow] = scale;
    for (let c = 0; c < width; c++)
      this.#transposed.scales[(column + c) * down.blocks + blockOfColumn] = scale;
    for (let r = 0; r < height; r++) {
      const inPlain = ((this.#row + r) * across.blocks + blockOfRow) * across.bytes;
      for (let c = 0; c < width; c++) {
        const inTransposed = ((column + c) * down.blocks + blockOfColumn) * down.bytes;
        const number = nearest(tile[r * width + c]!, scale, bits);
        write(this.#plain.codes, inPlain, c, number, bits);
        write(this.#transposed.codes, inTransposed, r, number, bits);
      }
    }
  }
}

/** The numbers that a copy stands for: [rows, columns], row-major. */
export function dequantise({ codes, scales }: Blocks, columns: number, bits: QuantisedBits): Float32Array {
  const side = TILE_SIDE[bits];
  const { blocks, bytes } = blockLayout(columns, bits);
  const rows = scales.length / blocks;
  const values = new Float32Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const block = row * blocks + Math.floor(column / side);
      const place = column % side;
      const byte = codes[block * bytes + (bits === 4 ? place >> 1 : place)]!;
      const code = bits === 4 ? (byte >> (4 * (place & 1))) & 15 : byte;
      values[row * columns + column] = (code - 2 ** (bits - 1)) * scales[block]!;
    }
  }
  return values;
}

function emptyBlocks(rows: number, columns: number, bits: QuantisedBits): Blocks {
  const { blocks, bytes } = blockLayout(columns, bits);
  // What lies beyond the edge of the matrix is zero.
  const zero = bits === 4 ? 0x88 : 0x80;
  return {
    codes: new Uint8Array(rows * blocks * bytes).fill(zero),
    scales: new Float32Array(rows * blocks),
  };
}

/** A float32, so that rounding and kernels work with the same one; 0 for a tile of zeros. */
function bestScale(tile: Float32Array, bits: QuantisedBits): number {
  let largest = 0;
  for (const value of tile) if (Math.abs(value) > Math.abs(largest)) largest = value;
  if (bits === 8) return Math.fround(Math.abs(largest) / 127);
  // The range is −8 … 7: the sign of the scale gives the longer side to the largest weight.
  let best = 0;
  let leastError = Number.POSITIVE_INFINITY;
  for (const share of FOUR_BIT_SCALES) {
    const scale = Math.fround((largest / -8) * share);
    const error = squaredError(tile, scale, bits);
    if (error < leastError) {
      best = scale;
      leastError = error;
    }
  }
  return best;
}

/** Written out: it runs for every weight and every scale that is tried. */
function squaredError(tile: Float32Array, scale: number, bits: QuantisedBits): number {
  const half = 2 ** (bits - 1);
  const inverse = scale === 0 ? 0 : 1 / scale;
  let sum = 0;
  for (let i = 0; i < tile.length; i++) {
    const value = tile[i]!;
    let number = Math.floor(value * inverse + 0.5);
    if (number < -half) number = -half;
    else if (number >= half) number = half - 1;
    const difference = value - scale * number;
    sum += difference * difference;
  }
  return sum;
}

/** From −2^(bits − 1) to 2^(bits − 1) − 1. */
function nearest(value: number, scale: number, bits: QuantisedBits): number {
  if (scale === 0) return 0;
  const half = 2 ** (bits - 1);
  return Math.max(-half, Math.min(half - 1, Math.round(value / scale)));
}

function write(codes: Uint8Array, start: number, place: number, number: number, bits: QuantisedBits): void {
  if (bits === 8) {
    codes[start + place] = number + 128;
    return;
  }
  const index = start + (place >> 1);
  const code = number + 8;
  codes[index] = place & 1 ? (codes[index]! & 0x0f) | (code << 4) : (codes[index]! & 0xf0) | code;
}
