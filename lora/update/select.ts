import { CHUNK_VALUES } from './presets.ts';

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
