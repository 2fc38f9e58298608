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
