import { CHUNK_VALUES, golombDivisor, keptCount } from './presets.ts';
import { RATIO_STEPS } from './quantise.ts';
import { scaleValue } from './scale.ts';

/**
 * The values of one tensor that an update contains, by ascending row-major index. `indices` is null if the update
 * contains all values of the tensor.
 */
export interface TensorUpdate {
  readonly indices: Uint32Array | null;
  readonly values: Float32Array;
}

/**
 * Bits of the code of a kept value. NEGATIVE is set if the value is negative, UPPER if its magnitude is the larger of
 * the two levels of its chunk.
 */
export const NEGATIVE = 2;
export const UPPER = 1;

/** Parameters that encode the kept values of a chunk. All full chunks have the same parameters. */
export interface ChunkCode {
  readonly kept: number;
  /** Divisor of the Golomb codes of the gaps between the indices of the kept values. */
  readonly divisor: number;
}

/** Lists the chunks of a tensor of `size` values: full chunks, then at most one shorter chunk. */
export function* chunksOf(
  size: number,
  kept: number,
): Generator<ChunkCode & { start: number; length: number }> {
  const code = (length: number) => {
    const keptHere = keptCount(length, kept);
    return { kept: keptHere, divisor: golombDivisor(length, keptHere) };
  };
  const full = code(CHUNK_VALUES);
  for (let start = 0; start < size; start += CHUNK_VALUES) {
    const length = Math.min(CHUNK_VALUES, size - start);
    yield { start, length, ...(length === CHUNK_VALUES ? full : code(length)) };
  }
}

/**
 * Sets `decoded[code]` to the value that each of the four codes of a chunk stands for. The values are exact
 * products, so they are equal on every machine.
 */
export function setDecodedValues(decoded: Float32Array, scale: number, ratio: number): void {
  const upper = scaleValue(scale);
  const lower = (upper * ratio) / RATIO_STEPS;
  decoded[0] = lower;
  decoded[UPPER] = upper;
  decoded[NEGATIVE] = -lower;
  decoded[NEGATIVE | UPPER] = -upper;
}
