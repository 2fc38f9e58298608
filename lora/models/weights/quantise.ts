/**
 * Quantises a weight matrix W to integers of 4 or 8 bits. W and Wᵀ are both stored and represent exactly the
 * same values, so that the backward pass through Wᵀ gives the gradient of the forward pass through W.
 *
 * At 4 bits, each square tile of W has one scale. The same tile, transposed, has the same scale in Wᵀ. At 8
 * bits, each row of W has one scale. A matrix product that sums over the rows of W first multiplies its other
 * operand by the scales.
 */
import { RowQuantiser } from './quantise-rows.ts';
import type { Blocks, QuantisedMatrix, Quantiser } from './quantiser.ts';

/** Bits per weight of a quantised base. */
export type QuantisedBits = 4 | 8;

/**
 * Side of a tile, in weights. Each row of a tile is a block for the kernels, which support blocks of 16 to
 * 256 weights, in powers of two. Larger blocks are faster and need fewer scales, but an outlier in a larger
 * block reduces the precision of more weights.
 */
const TILE_SIDE = 32;

/**
 * Candidate scales, relative to the scale that fits the largest weight. A smaller scale clips that weight, which may
 * reduce the total error.
 */
const TRIED_SCALES = [1, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7];

export function createQuantiser(rows: number, columns: number, bits: QuantisedBits): Quantiser {
  return bits === 8 ? new RowQuantiser(rows, columns) : new TileQuantiser(rows, columns);
}

export interface BlockLayout {
  /** Number of weights per block. At 8 bits, a block is a whole row. */
  readonly side: number;
  /** Number of blocks in a row. */
  readonly blocks: number;
  /** Size of a block in bytes. */
  readonly bytes: number;
}

/** Returns the block layout of a quantised matrix with `width` weights per row. */
export function blockLayout(width: number, bits: QuantisedBits): BlockLayout {
  if (bits === 8) return { side: width, blocks: 1, bytes: width };
  return { side: TILE_SIDE, blocks: Math.ceil(width / TILE_SIDE), bytes: TILE_SIDE / 2 };
}

class TileQuantiser implements Quantiser {
  readonly #rows: number;
  readonly #columns: number;
  readonly #plain: Blocks;
  readonly #transposed: Blocks;
  /** Rows of W that wait until their tiles are complete: at most TILE_SIDE. */
  readonly #band: Float32Array;
  #filled = 0;
  #row = 0;

  constructor(rows: number, columns: number) {
    this.#rows = rows;
    this.#columns = columns;
    this.#plain = emptyBlocks(rows, columns);
    this.#transposed = emptyBlocks(columns, rows);
    this.#band = new Float32Array(Math.min(rows, TILE_SIDE) * columns);
  }

  add(values: Float32Array): void {
    for (let taken = 0; taken < values.length; ) {
      const rowsLeft = Math.min(TILE_SIDE, this.#rows - this.#row);
      const count = Math.min(values.length - taken, rowsLeft * this.#columns - this.#filled);
      this.#band.set(values.subarray(taken, taken + count), this.#filled);
      taken += count;
      this.#filled += count;
      if (this.#filled === rowsLeft * this.#columns) this.#finishBand(rowsLeft);
    }
  }

  finish(): QuantisedMatrix {
    return { plain: this.#plain, transposed: this.#transposed };
  }

  #finishBand(height: number): void {
    const tile = new Float32Array(height * TILE_SIDE);
    for (let column = 0; column < this.#columns; column += TILE_SIDE) {
      const width = Math.min(TILE_SIDE, this.#columns - column);
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
    const scale = bestScale(tile);
    const blockOfRow = column / TILE_SIDE;
    const blockOfColumn = this.#row / TILE_SIDE;
    const across = blockLayout(this.#columns, 4);
    const down = blockLayout(this.#rows, 4);
    const height = tile.length / width;
    for (let r = 0; r < height; r++) this.#plain.scales[(this.#row + r) * across.blocks + blockOfRow] = scale;
    for (let c = 0; c < width; c++)
      this.#transposed.scales[(column + c) * down.blocks + blockOfColumn] = scale;
    for (let r = 0; r < height; r++) {
      const inPlain = ((this.#row + r) * across.blocks + blockOfRow) * across.bytes;
      for (let c = 0; c < width; c++) {
        const inTransposed = ((column + c) * down.blocks + blockOfColumn) * down.bytes;
        const code = nearest(tile[r * width + c]!, scale) + 8;
        write(this.#plain.codes, inPlain, c, code);
        write(this.#transposed.codes, inTransposed, r, code);
      }
    }
  }
}

function emptyBlocks(rows: number, columns: number): Blocks {
  const { blocks, bytes } = blockLayout(columns, 4);
  // Blocks may extend beyond the edge of the matrix. Their weights there are zero, and the code of zero is 8.
  return {
    codes: new Uint8Array(rows * blocks * bytes).fill(0x88),
    scales: new Float32Array(rows * blocks),
  };
}

/**
 * Returns the candidate scale with the least squared error; 0 for a tile of zeros. The scale is rounded to float32, as
 * in the kernels.
 */
function bestScale(tile: Float32Array): number {
  let largest = 0;
  for (const value of tile) if (Math.abs(value) > Math.abs(largest)) largest = value;
  // Integers range from −8 to 7. The sign of the scale is such that the largest weight becomes −8.
  let best = 0;
  let leastError = Number.POSITIVE_INFINITY;
  for (const share of TRIED_SCALES) {
    const scale = Math.fround((largest / -8) * share);
    const error = squaredError(tile, scale);
    if (error < leastError) {
      best = scale;
      leastError = error;
    }
  }
  return best;
}

/**
 * Returns the sum of the squared rounding errors of a tile at a scale. The rounding is inlined, because it runs for every
 * weight and every candidate scale.
 */
function squaredError(tile: Float32Array, scale: number): number {
  const inverse = scale === 0 ? 0 : 1 / scale;
  let sum = 0;
  for (let i = 0; i < tile.length; i++) {
    const value = tile[i]!;
    let number = Math.floor(value * inverse + 0.5);
    if (number < -8) number = -8;
    else if (number > 7) number = 7;
    const difference = value - scale * number;
    sum += difference * difference;
  }
  return sum;
}

/** Returns the integer from −8 to 7 that represents `value` best. */
function nearest(value: number, scale: number): number {
  return scale === 0 ? 0 : Math.max(-8, Math.min(7, Math.round(value / scale)));
}

function write(codes: Uint8Array, start: number, place: number, code: number): void {
  const index = start + (place >> 1);
  codes[index] = place & 1 ? (codes[index]! & 0x0f) | (code << 4) : (codes[index]! & 0xf0) | code;
}
