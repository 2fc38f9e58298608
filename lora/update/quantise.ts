import { EMPTY_SCALE, MAXIMUM_SCALE_CODE, scaleCode, scaleValue } from './scale.ts';

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
