/**
 * Scales on the wire: 13 bits that are the pattern of a positive bfloat16 less an offset, so that they cover 64 binades
 * from 2⁻⁴⁷ with 8 significant bits. Half precision has too few exponents (its normal numbers end at 6·10⁻⁵, and the
 * updates of a decayed learning rate lie below); and here a negative, subnormal, infinite or NaN scale cannot be written
 * at all. A scale times an integer of 16 bits is exact in float32: every implementation decodes to the same bits.
 */

/** Code of a chunk or block of which nothing is sent. */
export const EMPTY_SCALE = 0;

/** About 2¹⁷: a weight that moves further in one round has diverged. */
export const MAXIMUM_SCALE_CODE = 2 ** 13 - 1;

/** bfloat16 pattern of 2⁻⁴⁷: the code that stands for it is EMPTY_SCALE, so the smallest scale is one step above. */
const OFFSET = (127 - 47) << 7;

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

/** The scale that a code from 1 to MAXIMUM_SCALE_CODE stands for; 0 for EMPTY_SCALE. */
export function scaleValue(code: number): number {
  if (code === EMPTY_SCALE) return 0;
  bits[0] = (code + OFFSET) << 16;
  return float[0]!;
}

/**
 * Code of the scale nearest to a finite value ≥ 0, EMPTY_SCALE below the smallest. Exceeds MAXIMUM_SCALE_CODE when the
 * value exceeds the largest scale: for the caller to refuse.
 */
export function scaleCode(value: number): number {
  float[0] = value;
  return Math.max(EMPTY_SCALE, ((bits[0]! + 0x8000) >>> 16) - OFFSET);
}
