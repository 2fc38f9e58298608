import { CHUNK_VALUES } from './format.ts';

/*
 * Scales on the wire have 13 bits: the bit pattern of a positive bfloat16 minus an offset. They cover 64 binades from
 * 2⁻⁴⁷ with 8 significant bits. Half precision has too few exponents. Its smallest normal number is 6·10⁻⁵, and updates
 * at a decayed learning rate have smaller values. A negative, subnormal, infinite or NaN scale has no code. A scale
 * times a 16-bit integer is exact in float32, so every implementation decodes to the same bits.
 */

/** Code of a chunk or block without values. */
export const EMPTY_SCALE = 0;

/** Code of the largest scale. This scale is about 2¹⁷. If a weight changes more in one round, training has diverged. */
export const MAXIMUM_SCALE_CODE = 2 ** 13 - 1;

/**
 * Difference between the bit pattern of a scale, which is a bfloat16 number, and its code. This difference is
 * the bit pattern of 2⁻⁴⁷. The smallest scale has the code 1, and is the next larger bfloat16 number.
 */
const OFFSET = (127 - 47) << 7;

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

/** Returns the scale of a code from 1 to MAXIMUM_SCALE_CODE; 0 for EMPTY_SCALE. */
export function scaleValue(code: number): number {
  if (code === EMPTY_SCALE) return 0;
  bits[0] = (code + OFFSET) << 16;
  return float[0]!;
}

/**
 * Returns the code of the scale nearest to a finite value ≥ 0. A value that is too small for the smallest
 * scale gives EMPTY_SCALE. A value above the largest scale gives a result above MAXIMUM_SCALE_CODE, which the
 * caller must check.
 */
export function scaleCode(value: number): number {
  float[0] = value;
  return Math.max(EMPTY_SCALE, ((bits[0]! + 0x8000) >>> 16) - OFFSET);
}

// Magnitudes are compared by the low 31 bits of their float32 patterns. Read as integers, these bits have the same order
// as the magnitudes. The selection makes up to three passes. The first pass takes the upper 11 bits (exponent and 3 bits
// of the mantissa) of every value of the chunk. The other two passes each take 10 bits of the few candidates that are
// left.
const FIRST_SHIFT = 20;
const LEVELS = [10, 0] as const;
const FIRST_BINS = 1 << 11;
const NEXT_BINS = 1 << 10;
/** Number of the first histogram bin for infinities and NaN. */
const FIRST_NON_FINITE_BIN = 0x7f800000 >>> FIRST_SHIFT;

const histogram = new Uint32Array(FIRST_BINS);
const candidates = new Uint32Array(CHUNK_VALUES);

/** Result of `selectLargest` if one of the values is infinite or NaN. */
export const NON_FINITE = -1;

/**
 * Finds the `kept` values of largest magnitude in `patterns[start … start+length)`. Writes their positions, ascending
 * and relative to `start`, to `positions`. If two magnitudes are equal, the lower position wins. Uses radix selection
 * in O(length).
 * @param patterns float32 bit patterns; `length` is at most CHUNK_VALUES
 * @returns `kept`, or NON_FINITE if one of the values is infinite or NaN
 */
export function selectLargest(
  patterns: Uint32Array,
  start: number,
  length: number,
  kept: number,
  positions: Uint32Array,
): number {
  histogram.fill(0);
  for (let position = start, end = start + length; position < end; position++) {
    histogram[(patterns[position]! & 0x7fffffff) >>> FIRST_SHIFT]!++;
  }
  for (let bin = FIRST_NON_FINITE_BIN; bin < FIRST_BINS; bin++) if (histogram[bin]! > 0) return NON_FINITE;

  let missing = kept;
  let threshold = FIRST_NON_FINITE_BIN - 1;
  while (histogram[threshold]! < missing) missing -= histogram[threshold--]!;
  const inFirstBin = histogram[threshold]!;

  const lowest = threshold << FIRST_SHIFT;
  let found = 0;
  for (let position = 0; position < length; position++) {
    candidates[found] = position;
    found += (patterns[start + position]! & 0x7fffffff) >= lowest ? 1 : 0;
  }
  if (found === kept) {
    positions.set(candidates.subarray(0, kept));
    return kept;
  }

  let shift = FIRST_SHIFT;
  let inBin = inFirstBin;
  for (const next of LEVELS) {
    if (inBin === missing) break;
    histogram.fill(0, 0, NEXT_BINS);
    for (let candidate = 0; candidate < found; candidate++) {
      const pattern = patterns[start + candidates[candidate]!]! & 0x7fffffff;
      if (pattern >>> shift === threshold) histogram[(pattern >>> next) & (NEXT_BINS - 1)]!++;
    }
    let bin = NEXT_BINS - 1;
    while (histogram[bin]! < missing) missing -= histogram[bin--]!;
    inBin = histogram[bin]!;
    threshold = (threshold << (shift - next)) | bin;
    shift = next;
  }

  let taken = 0;
  for (let candidate = 0; candidate < found; candidate++) {
    const position = candidates[candidate]!;
    const prefix = (patterns[start + position]! & 0x7fffffff) >>> shift;
    if (prefix < threshold || (prefix === threshold && --missing < 0)) continue;
    positions[taken++] = position;
  }
  return taken;
}

/**
 * Iterations of Lloyd's algorithm. After 5 iterations, the error on pseudo-gradients is at most 3 % above the
 * smallest possible error with two levels.
 */
const LLOYD_ROUNDS = 5;

/**
 * Maximum ratio of the lower level to the upper level, in steps of 1/128. Two levels with a larger ratio are replaced
 * by one level.
 */
const LARGEST_RATIO = 126;

/** Denominator of the ratio: lower level = scale · ratio / 128, exact in float32. */
export const RATIO_STEPS = 128;

/**
 * Magnitudes, as numbers and as float32 bit patterns. Both arrays view the same memory. A larger magnitude has a larger
 * bit pattern.
 */
export interface Magnitudes {
  readonly values: Float32Array;
  readonly patterns: Int32Array;
}

export function magnitudesOf(length: number): Magnitudes {
  const values = new Float32Array(length);
  return { values, patterns: new Int32Array(values.buffer) };
}

/** The two magnitudes that stand for the kept values of a chunk. */
export interface Levels {
  /** Scale code of the upper level; EMPTY_SCALE if there is nothing to send; OUT_OF_RANGE if the level is too large. */
  scale: number;
  /** Lower level divided by the upper level, in steps of 1/128; 0 if there is only one level. */
  ratio: number;
  /** Magnitudes whose bit pattern is above this number are sent as the upper level. */
  threshold: number;
}

export const OUT_OF_RANGE = -1;

const rounded = magnitudesOf(1);

function patternOf(value: number): number {
  rounded.values[0] = value;
  return rounded.patterns[0]!;
}

/**
 * Finds two levels that minimise the squared error of the first `count` magnitudes (S. Lloyd, "Least squares
 * quantization in PCM", 1982), starting from the extremes. Writes them to `levels`. The decoder requires that a chunk
 * uses every level that it has: the upper level and, if `levels.ratio` is not 0, also the lower level. Therefore at
 * least one magnitude lies above the threshold and, if there is a lower level, at least one lies at or below it.
 */
export function lloydLevels({ values, patterns }: Magnitudes, count: number, levels: Levels): void {
  let lower = Number.POSITIVE_INFINITY;
  let upper = 0;
  let total = 0;
  for (let entry = 0; entry < count; entry++) {
    const value = values[entry]!;
    lower = Math.min(lower, value);
    upper = Math.max(upper, value);
    total += value;
  }
  for (let round = 0; round < LLOYD_ROUNDS && lower < upper; round++) {
    const threshold = patternOf((lower + upper) / 2);
    let above = 0;
    let sumAbove = 0;
    for (let entry = 0; entry < count; entry++) {
      // 1 for a magnitude above the threshold, else 0. There is no branch, because mispredicted branches would cost
      // more than the sums.
      const isAbove = (threshold - patterns[entry]!) >>> 31;
      sumAbove += isAbove * values[entry]!;
      above += isAbove;
    }
    if (above === 0) break;
    upper = sumAbove / above;
    lower = (total - sumAbove) / (count - above);
  }
  const scale = scaleCode(upper);
  const ratio =
    scale === EMPTY_SCALE ? 0 : Math.round((RATIO_STEPS * Math.max(0, lower)) / scaleValue(scale));
  if (ratio > LARGEST_RATIO) {
    levels.scale = scaleCode(total / count);
    levels.ratio = 0;
    levels.threshold = -1;
  } else {
    levels.scale = scale;
    levels.ratio = ratio;
    levels.threshold = patternOf((scaleValue(scale) * (1 + ratio / RATIO_STEPS)) / 2);
  }
  if (levels.scale > MAXIMUM_SCALE_CODE) levels.scale = OUT_OF_RANGE;
}
