import { MAXIMUM_SCALE_CODE, scaleCode, scaleValue } from './scale.ts';

/** On pseudo-gradients the error is within 3 % of that of the best two levels after this many rounds. */
const LLOYD_ROUNDS = 5;

/** Where the two levels would lie closer than one step of the ratio, one level serves both. */
const LARGEST_RATIO = 126;

/** Denominator of the ratio: lower level = scale · ratio / 128, exact in float32. */
export const RATIO_STEPS = 128;

/** Two magnitudes for the kept values of a chunk. `scale` 0 sends nothing at all. */
export interface Levels {
  scale: number;
  ratio: number;
  /** Magnitudes above this are sent as the upper level. */
  threshold: number;
}

export const OUT_OF_RANGE = -1;

/**
 * Two levels that minimise the squared error of `magnitudes[0 … count)` (S. Lloyd, "Least squares quantization in PCM",
 * 1982), started from the extremes. At least one magnitude lies above the threshold, and at least one at or below it
 * unless the ratio is 0 and all lie above: what the decoder requires of a canonical chunk.
 * @returns levels whose `scale` is a scale code, 0, or OUT_OF_RANGE when the magnitudes exceed the largest scale
 */
export function lloydLevels(magnitudes: Float64Array, count: number, levels: Levels): void {
  let lower = Number.POSITIVE_INFINITY;
  let upper = 0;
  let total = 0;
  for (let position = 0; position < count; position++) {
    const magnitude = magnitudes[position]!;
    if (magnitude < lower) lower = magnitude;
    if (magnitude > upper) upper = magnitude;
    total += magnitude;
  }
  for (let round = 0; round < LLOYD_ROUNDS && lower < upper; round++) {
    const threshold = (lower + upper) / 2;
    let above = 0;
    let sumAbove = 0;
    for (let position = 0; position < count; position++) {
      const magnitude = magnitudes[position]!;
      if (magnitude > threshold) {
        sumAbove += magnitude;
        above++;
      }
    }
    if (above === 0) break;
    upper = sumAbove / above;
    if (above < count) lower = (total - sumAbove) / (count - above);
  }
  let scale = scaleCode(upper);
  let ratio = scale === 0 ? 0 : Math.round((RATIO_STEPS * Math.max(0, lower)) / scaleValue(scale));
  levels.threshold = (scaleValue(scale) * (1 + ratio / RATIO_STEPS)) / 2;
  if (ratio > LARGEST_RATIO) {
    scale = scaleCode(total / count);
    ratio = 0;
    levels.threshold = -1;
  }
  levels.scale = scale <= MAXIMUM_SCALE_CODE ? scale : OUT_OF_RANGE;
  levels.ratio = ratio;
}
