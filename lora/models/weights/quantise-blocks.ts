/**
 * Quantises a weight matrix for inference. In each row of W (one output), every block of 32 consecutive weights has one
 * scale. onnxruntime's operator MatMulNBits uses this layout.
 */
import type { BlockedEntry } from '../../engines/weights.ts';
import { halfBits, halfValue } from './dtypes.ts';
import type { QuantisedBits } from './quantise.ts';

/** Number of weights in a block. */
export const BLOCK = 32;

/**
 * Candidate scales at 4 bits, relative to the scale that fits the largest weight. A smaller scale clips that weight,
 * which may reduce the total error. At 8 bits, smaller scales do not reduce the error.
 */
const TRIED_SCALES = [1, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7];

/** Codes and scales in the shapes that `BlockedEntry` describes. */
interface QuantisedBlocks {
  readonly codes: Uint8Array;
  readonly scales: Float32Array;
}

/**
 * Quantises a matrix. If its weights come from Q8_0 or Q4_0 blocks of a GGUF file, and `bits` is at least the number of
 * bits in the file, quantisation changes no weight.
 * @param chunks the matrix in its stored shape, in row-major order
 */
export async function quantiseBlocks(
  chunks: AsyncIterable<Float32Array>,
  { shape, isTransposed, bits }: Pick<BlockedEntry, 'shape' | 'isTransposed' | 'bits'>,
): Promise<QuantisedBlocks> {
  const [rows, columns] = shape;
  const [out, width] = isTransposed ? [columns, rows] : [rows, columns];
  const blocks = out * Math.ceil(width / BLOCK);
  const made = {
    codes: new Uint8Array((blocks * BLOCK * bits) / 8),
    scales: new Float32Array(blocks),
  };
  const scaleOf = blockScales(bits);
  const write = (row: number, values: Float32Array) => quantiseRow(values, row, { bits, scaleOf }, made);
  if (isTransposed) {
    const whole = await collect(chunks, rows * columns);
    const row = new Float32Array(width);
    for (let o = 0; o < out; o++) {
      for (let i = 0; i < width; i++) row[i] = whole[i * columns + o]!;
      write(o, row);
    }
    return made;
  }
  const row = new Float32Array(width);
  let filled = 0;
  let index = 0;
  for await (const values of chunks) {
    for (let taken = 0; taken < values.length; ) {
      const count = Math.min(width - filled, values.length - taken);
      row.set(values.subarray(taken, taken + count), filled);
      taken += count;
      filled += count;
      if (filled < width) continue;
      write(index++, row);
      filled = 0;
    }
  }
  return made;
}

async function collect(chunks: AsyncIterable<Float32Array>, length: number): Promise<Float32Array> {
  const whole = new Float32Array(length);
  let filled = 0;
  for await (const values of chunks) {
    whole.set(values, filled);
    filled += values.length;
  }
  return whole;
}

function quantiseRow(
  row: Float32Array,
  index: number,
  { bits, scaleOf }: { bits: QuantisedBits; scaleOf: (block: Float32Array) => number },
  { codes, scales }: QuantisedBlocks,
): void {
  const blocks = Math.ceil(row.length / BLOCK);
  for (let b = 0; b < blocks; b++) {
    const block = row.subarray(b * BLOCK, (b + 1) * BLOCK);
    const place = index * blocks + b;
    const scale = scaleOf(block);
    scales[place] = scale;
    const inverse = scale === 0 ? 0 : 1 / scale;
    if (bits === 8) {
      for (let i = 0; i < BLOCK; i++)
        codes[place * BLOCK + i] = 128 + nearest((block[i] ?? 0) * inverse, 127);
    } else {
      for (let i = 0; i < BLOCK; i += 2) {
        const [low, high] = [block[i] ?? 0, block[i + 1] ?? 0].map(
          (value) => 8 + nearest(value * inverse, 7),
        );
        codes[(place * BLOCK + i) / 2] = low! | (high! << 4);
      }
    }
  }
}

/** Returns the nearest integer from −largest − 1 to `largest`. */
function nearest(value: number, largest: number): number {
  return Math.max(-largest - 1, Math.min(largest, Math.round(value)));
}

/**
 * Returns a function that chooses the scale of each block of a matrix. After the first block without an exact
 * scale (see `exactScale`), the function no longer looks for exact scales, because either all blocks of a
 * matrix were quantised before, or none.
 */
function blockScales(bits: QuantisedBits): (block: Float32Array) => number {
  let isQuantised = true;
  return (block) => {
    const exact = isQuantised ? exactScale(block, bits) : null;
    isQuantised = exact !== null;
    return exact ?? (bits === 8 ? scaleOf8(block) : scaleOf4(block));
  };
}

/**
 * Returns a float16 scale with which the block is quantised without error, because each weight is a code of
 * `bits` bits times the scale. Returns null if no such scale exists. Blocks of Q8_0 and Q4_0 have such a
 * scale.
 */
function exactScale(block: Float32Array, bits: QuantisedBits): number | null {
  const most = 2 ** (bits - 1);
  const largest = largestOf(block);
  if (largest === 0) return 0;
  // The largest weight gets a negative code, because codes range from −most to most − 1.
  for (let code = -most; code < 0; code++) {
    const scale = largest / code;
    if (halfValue(halfBits(scale)) !== scale) continue;
    if (block.every((value) => Number.isInteger(value / scale) && value / scale < most)) return scale;
  }
  return null;
}

/** Returns the weight with the largest magnitude, with its sign. */
function largestOf(block: Float32Array): number {
  let largest = 0;
  for (const value of block) if (Math.abs(value) > Math.abs(largest)) largest = value;
  return largest;
}

function scaleOf8(block: Float32Array): number {
  let largest = 0;
  for (const value of block) largest = Math.max(largest, Math.abs(value));
  return Math.fround(largest / 127);
}

/**
 * Returns the 4-bit scale with the least squared error among the candidates of TRIED_SCALES. The scale has the sign
 * that gives the weight of largest magnitude a negative code, because codes reach −8 but only +7.
 */
function scaleOf4(block: Float32Array): number {
  const largest = largestOf(block);
  let best = 0;
  let least = Number.POSITIVE_INFINITY;
  for (const share of TRIED_SCALES) {
    const scale = Math.fround((largest / -8) * share);
    const inverse = scale === 0 ? 0 : 1 / scale;
    let error = 0;
    for (let i = 0; i < block.length; i++) {
      const difference = block[i]! - scale * nearest(block[i]! * inverse, 7);
      error += difference * difference;
    }
    if (error < least) [best, least] = [scale, error];
  }
  return best;
}
