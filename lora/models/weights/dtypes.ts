/** Element types of safetensors files and their sizes in bytes. */
export const DTYPE_BYTES: Readonly<Record<string, number>> = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
  U16: 2,
  I16: 2,
  F16: 2,
  BF16: 2,
  U32: 4,
  I32: 4,
  F32: 4,
  U64: 8,
  I64: 8,
  F64: 8,
};

/** Element types that weights may have. All are converted to float32 on reading. */
export type FloatDtype = 'F32' | 'F16' | 'BF16';

export function isFloatDtype(dtype: string): dtype is FloatDtype {
  return dtype === 'F32' || dtype === 'F16' || dtype === 'BF16';
}

/**
 * Converts little-endian elements to float32 exactly. `bytes` holds whole elements. For F32 the result may be a view of
 * `bytes`.
 */
export function decodeFloats(bytes: Uint8Array, dtype: FloatDtype): Float32Array {
  const size = DTYPE_BYTES[dtype]!;
  const count = bytes.byteLength / size;
  // A typed array must start at a multiple of its element size, so unaligned bytes are copied to an array that starts
  // at 0. slice() would not copy them, because on a Buffer it returns a view.
  const aligned = bytes.byteOffset % size === 0 ? bytes : new Uint8Array(bytes);
  if (dtype === 'F32') return new Float32Array(aligned.buffer, aligned.byteOffset, count);
  const words = new Uint16Array(aligned.buffer, aligned.byteOffset, count);
  const values = new Float32Array(count);
  if (dtype === 'F16') {
    const table = halfTable();
    for (let i = 0; i < count; i++) values[i] = table[words[i]!]!;
  } else {
    const bits = new Uint32Array(values.buffer);
    for (let i = 0; i < count; i++) bits[i] = words[i]! << 16;
  }
  return values;
}

/**
 * Converts float32 to little-endian elements. Rounds to nearest, ties to even, as PyTorch does. For F32, the result is
 * a view of `values`.
 */
export function encodeFloats(values: Float32Array, dtype: FloatDtype): Uint8Array {
  if (dtype === 'F32') return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const words = new Uint16Array(values.length);
  const convert = dtype === 'F16' ? toHalf : toBfloat;
  for (let i = 0; i < bits.length; i++) words[i] = convert(bits[i]!);
  return new Uint8Array(words.buffer);
}

/** Converts float32 bits to bfloat16 bits: the upper half, rounded. */
function toBfloat(bits: number): number {
  const magnitude = bits & 0x7fffffff;
  // Sets a bit of the upper half. Without this bit, a NaN whose payload is only in the lower half would
  // become infinity.
  if (magnitude > 0x7f800000) return (bits >>> 16) | 0x40;
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

/** Converts float32 bits to float16 bits (1 sign bit, 5 exponent bits, 10 mantissa bits). */
function toHalf(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x477ff000) return sign | 0x7c00; // 65,520 and above round to infinity
  if (magnitude >= 0x38800000) {
    // From 2^-14 on, a float16 is a normal number. The bias of the exponent changes from 127 to 15, and 13 mantissa
    // bits are rounded away.
    const rebiased = magnitude - 0x38000000;
    return sign | ((rebiased + 0xfff + ((rebiased >>> 13) & 1)) >>> 13);
  }
  // Below 2^-14, a float16 is a subnormal number: a multiple of 2^-24 without a hidden bit. The hidden bit of the float32
  // therefore becomes part of the mantissa.
  const shift = 126 - (magnitude >>> 23);
  if (shift > 24) return sign;
  const mantissa = (magnitude & 0x7fffff) | 0x800000;
  const half = 1 << (shift - 1);
  return sign | ((mantissa + half - 1 + ((mantissa >>> shift) & 1)) >>> shift);
}

/** Converts a number to float16 bits, rounded to nearest, ties to even. The number is rounded to float32 first. */
export function halfBits(value: number): number {
  single[0] = value;
  return toHalf(singleBits[0]!);
}

/** Returns the number whose float16 bits are `half`. */
export function halfValue(half: number): number {
  return halfTable()[half]!;
}

const single = new Float32Array(1);
const singleBits = new Uint32Array(single.buffer);

let halves: Float32Array | null = null;

/**
 * Returns the values of all 65,536 float16 numbers. A look-up in this table is four times as fast as a computation.
 */
function halfTable(): Float32Array {
  if (halves) return halves;
  halves = new Float32Array(0x10000);
  for (let half = 0; half < 0x10000; half++) {
    const exponent = (half >>> 10) & 0x1f;
    const mantissa = half & 0x3ff;
    const magnitude =
      exponent === 0
        ? mantissa * 2 ** -24
        : exponent === 31
          ? mantissa === 0
            ? Number.POSITIVE_INFINITY
            : Number.NaN
          : (1 + mantissa / 1024) * 2 ** (exponent - 15);
    halves[half] = half & 0x8000 ? -magnitude : magnitude;
  }
  return halves;
}
