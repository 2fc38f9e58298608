/**
 * Converts blocks of quantised weights to float32 and back. Each operation is rounded to float32, so the results are
 * equal to the results of ggml's own code, bit for bit.
 */
import { decodeFloats, encodeFloats, halfBits, halfValue, isFloatDtype } from '../weights/dtypes.ts';
import { TENSOR_FORMATS, type TensorType } from './format.ts';

/** Decodes the block that begins at byte `at`, and writes its weights to `out` from index `to` on. */
type DecodeBlock = (bytes: Uint8Array, at: number, out: Float32Array, to: number) => void;

const { fround } = Math;

const DECODERS: Readonly<Partial<Record<TensorType, DecodeBlock>>> = {
  Q4_0: (bytes, at, out, to) => {
    const scale = half(bytes, at);
    for (let i = 0; i < 16; i++) {
      const byte = bytes[at + 2 + i]!;
      out[to + i] = scale * ((byte & 15) - 8);
      out[to + 16 + i] = scale * ((byte >> 4) - 8);
    }
  },
  Q4_1: (bytes, at, out, to) => {
    const [scale, least] = [half(bytes, at), half(bytes, at + 2)];
    for (let i = 0; i < 16; i++) {
      const byte = bytes[at + 4 + i]!;
      out[to + i] = fround(scale * (byte & 15)) + least;
      out[to + 16 + i] = fround(scale * (byte >> 4)) + least;
    }
  },
  Q5_0: (bytes, at, out, to) => {
    const scale = half(bytes, at);
    for (let i = 0; i < 32; i++) out[to + i] = scale * (fiveBits(bytes, at + 2, i) - 16);
  },
  Q5_1: (bytes, at, out, to) => {
    const [scale, least] = [half(bytes, at), half(bytes, at + 2)];
    for (let i = 0; i < 32; i++) out[to + i] = fround(scale * fiveBits(bytes, at + 4, i)) + least;
  },
  Q8_0: (bytes, at, out, to) => {
    const scale = half(bytes, at);
    for (let i = 0; i < 32; i++) out[to + i] = scale * signed(bytes[at + 2 + i]!);
  },
  Q4_K: (bytes, at, out, to) =>
    decodeGroups(bytes, at, out, to, (group, i) => {
      const byte = bytes[at + 16 + 32 * (group >> 1) + i]!;
      return group & 1 ? byte >> 4 : byte & 15;
    }),
  Q5_K: (bytes, at, out, to) =>
    decodeGroups(bytes, at, out, to, (group, i) => {
      const byte = bytes[at + 48 + 32 * (group >> 1) + i]!;
      const low = group & 1 ? byte >> 4 : byte & 15;
      return low | (((bytes[at + 16 + i]! >> group) & 1) << 4);
    }),
  Q6_K: (bytes, at, out, to) => {
    // A block has 128 bytes with the low four bits of the weights, 64 bytes with their high two bits, 16 scales, and a
    // scale for these scales.
    const scale = half(bytes, at + 208);
    for (let index = 0; index < 256; index++) {
      const [side, quarter, i] = [index >> 7, (index >> 5) & 3, index & 31];
      const byte = bytes[at + 64 * side + 32 * (quarter & 1) + i]!;
      const low = quarter & 2 ? byte >> 4 : byte & 15;
      const high = (bytes[at + 128 + 32 * side + i]! >> (2 * quarter)) & 3;
      const own = fround(scale * signed(bytes[at + 192 + (index >> 4)]!));
      out[to + index] = own * ((low | (high << 4)) - 32);
    }
  },
};

/**
 * Decodes a block of Q4_K or Q5_K: eight groups of 32 weights. A weight is d·scale·q − dmin·minimum, where d and dmin
 * belong to the block, scale and minimum to the group, and `numberOf` returns the integer q.
 */
function decodeGroups(
  bytes: Uint8Array,
  at: number,
  out: Float32Array,
  to: number,
  numberOf: (group: number, i: number) => number,
): void {
  const [d, dmin] = [half(bytes, at), half(bytes, at + 2)];
  for (let group = 0; group < 8; group++) {
    const [scale, minimum] = scaleAndMinimum(bytes, at + 4, group);
    const [step, offset] = [fround(d * scale), fround(dmin * minimum)];
    for (let i = 0; i < 32; i++) out[to + 32 * group + i] = fround(step * numberOf(group, i)) - offset;
  }
}

/**
 * Reads the scale and the minimum of a group, 6 bits each. In the first four groups, both numbers are the low six bits
 * of bytes 0 to 7. In the other groups, their low four bits are in bytes 8 to 11, and their high two bits are the high
 * bits of bytes 0 to 7.
 */
function scaleAndMinimum(bytes: Uint8Array, at: number, group: number): [scale: number, minimum: number] {
  if (group < 4) return [bytes[at + group]! & 63, bytes[at + 4 + group]! & 63];
  const both = bytes[at + 4 + group]!;
  return [(both & 15) | ((bytes[at + group - 4]! >> 6) << 4), (both >> 4) | ((bytes[at + group]! >> 6) << 4)];
}

/**
 * Reads the five-bit integer of weight i in a block of Q5_0 or Q5_1. The first four bytes hold the highest bits of
 * all weights: bit i belongs to weight i. The next 16 bytes hold the low four bits, two weights in a byte.
 */
function fiveBits(bytes: Uint8Array, at: number, i: number): number {
  const byte = bytes[at + 4 + (i & 15)]!;
  return (i < 16 ? byte & 15 : byte >> 4) | (((bytes[at + (i >> 3)]! >> (i & 7)) & 1) << 4);
}

function half(bytes: Uint8Array, at: number): number {
  return halfValue(bytes[at]! | (bytes[at + 1]! << 8));
}

function signed(byte: number): number {
  return (byte << 24) >> 24;
}

/** Converts whole blocks to float32. For F32 the result may be a view of `bytes`. */
export function decodeBlocks(bytes: Uint8Array, type: TensorType): Float32Array {
  if (isFloatDtype(type)) return decodeFloats(bytes, type);
  const { weights, bytes: size } = TENSOR_FORMATS[type];
  const decode = DECODERS[type]!;
  const count = bytes.byteLength / size;
  const out = new Float32Array(count * weights);
  for (let block = 0; block < count; block++) decode(bytes, block * size, out, block * weights);
  return out;
}

/** Tensor types that this program writes. */
export type WrittenType = 'F32' | 'F16' | 'BF16' | 'Q8_0';

/** Converts whole blocks of float32 weights. For F32 returns a view of `values`. */
export function encodeBlocks(values: Float32Array, type: WrittenType): Uint8Array {
  if (type !== 'Q8_0') return encodeFloats(values, type);
  const { weights, bytes: size } = TENSOR_FORMATS.Q8_0;
  const count = values.length / weights;
  const bytes = new Uint8Array(count * size);
  for (let block = 0; block < count; block++)
    encodeQ8(values.subarray(block * weights, (block + 1) * weights), bytes, block * size);
  return bytes;
}

/**
 * Encodes a block of Q8_0: 32 weights as integers from −127 to 127, and a float16 scale, the largest magnitude / 127.
 */
function encodeQ8(values: Float32Array, bytes: Uint8Array, at: number): void {
  let largest = 0;
  for (const value of values) largest = Math.max(largest, Math.abs(value));
  const scale = fround(largest / 127);
  const inverse = scale === 0 ? 0 : fround(1 / scale);
  const stored = halfBits(scale);
  bytes[at] = stored & 255;
  bytes[at + 1] = stored >> 8;
  for (let i = 0; i < values.length; i++) bytes[at + 2 + i] = roundAway(fround(values[i]! * inverse));
}

/** Rounds to the nearest integer, with ties away from zero, as C's roundf does. */
function roundAway(value: number): number {
  const magnitude = Math.floor(Math.abs(value) + 0.5);
  return value < 0 ? -magnitude : magnitude;
}
