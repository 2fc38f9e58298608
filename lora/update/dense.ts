import { notCanonical, notEncodable, truncated, updateError } from './errors.ts';
import type { TensorUpdate } from './format.ts';
import {
  BLOCK_SCALE_BYTES,
  BLOCK_VALUES,
  HEADER_BYTES,
  type UpdateLayout,
  updateLimits,
  zeros,
} from './format.ts';
import { EMPTY_SCALE, MAXIMUM_SCALE_CODE, scaleCode, scaleValue } from './quantise.ts';

/**
 * Largest magnitude of an integer. The range −7 to 7 is symmetric, so that rounding is unbiased. Integers are written
 * with 7 added, so the code 15 is unused.
 */
const LARGEST = 7;

/**
 * Encodes a dense update: 4-bit integers with one scale per block. ±7 stands for the largest magnitude of the block.
 * @returns `bytes`: the payload, after `HEADER_BYTES` zero bytes that the caller overwrites with the header; `tensors`:
 *   the values that a decoder gets from the payload
 * @throws UPDATE_VALUES when a value is too large or not finite
 */
export function encodeDense(
  layout: UpdateLayout,
  tensors: readonly Float32Array[],
): { bytes: Uint8Array; tensors: TensorUpdate[] } {
  const bytes = new Uint8Array(updateLimits(layout, 'dense').maximumBytes);
  let at = HEADER_BYTES;
  const sent = zeros(layout);
  for (const [tensor, values] of tensors.entries()) {
    for (let start = 0; start < values.length; start += BLOCK_VALUES) {
      const end = Math.min(start + BLOCK_VALUES, values.length);
      const code = blockScale(values, start, end);
      if (code > MAXIMUM_SCALE_CODE) throw notEncodable(layout[tensor]!.name);
      bytes[at] = code;
      bytes[at + 1] = code >>> 8;
      at += BLOCK_SCALE_BYTES;
      if (code !== EMPTY_SCALE)
        at = writeBlock(bytes, at, values, start, end, scaleValue(code), sent[tensor]!);
    }
  }
  return { bytes: bytes.slice(0, at), tensors: sent.map((values) => ({ indices: null, values })) };
}

/** Returns the scale code of a block; a code above MAXIMUM_SCALE_CODE when a value is too large or not finite. */
function blockScale(values: Float32Array, start: number, end: number): number {
  let largest = 0;
  let sum = 0;
  for (let index = start; index < end; index++) {
    const magnitude = Math.abs(values[index]!);
    if (magnitude > largest) largest = magnitude;
    sum += magnitude;
  }
  // The sum catches NaN, which the comparison above ignores.
  return Number.isFinite(sum) ? scaleCode(largest / LARGEST) : MAXIMUM_SCALE_CODE + 1;
}

function writeBlock(
  bytes: Uint8Array,
  offset: number,
  values: Float32Array,
  start: number,
  end: number,
  scale: number,
  sent: Float32Array,
): number {
  const inverse = 1 / scale;
  let at = offset;
  for (let index = start; index < end; index += 2) {
    // Computes the nearest integer plus LARGEST by truncating a positive number.
    const low = (values[index]! * inverse + (LARGEST + 0.5)) | 0;
    sent[index] = (low - LARGEST) * scale;
    let high = 0;
    if (index + 1 < end) {
      high = (values[index + 1]! * inverse + (LARGEST + 0.5)) | 0;
      sent[index + 1] = (high - LARGEST) * scale;
    }
    bytes[at++] = low | (high << 4);
  }
  return at;
}

/**
 * Decodes the payload of a dense update.
 * @throws UPDATE_SIZE when the payload is too short or too long, UPDATE_SCALE, UPDATE_CANONICAL
 */
export function decodeDense(bytes: Uint8Array, layout: UpdateLayout): TensorUpdate[] {
  let at = HEADER_BYTES;
  const tensors = zeros(layout).map((values, tensor) => {
    const { name } = layout[tensor]!;
    for (let start = 0; start < values.length; start += BLOCK_VALUES) {
      const end = Math.min(start + BLOCK_VALUES, values.length);
      if (at + BLOCK_SCALE_BYTES > bytes.length) throw truncated(name);
      const code = bytes[at]! | (bytes[at + 1]! << 8);
      at += BLOCK_SCALE_BYTES;
      if (code === EMPTY_SCALE) continue;
      if (code > MAXIMUM_SCALE_CODE) {
        throw updateError('UPDATE_SCALE', `scale code ${code} in ${name} exceeds ${MAXIMUM_SCALE_CODE}`, {
          name,
          code,
          maximum: MAXIMUM_SCALE_CODE,
        });
      }
      if (at + Math.ceil((end - start) / 2) > bytes.length) throw truncated(name);
      at = readBlock(bytes, at, values, start, end, scaleValue(code), name);
    }
    return { indices: null, values };
  });
  if (at < bytes.length) {
    throw updateError('UPDATE_SIZE', `the update has ${bytes.length - at} bytes after its last value`, {
      expected: at,
      given: bytes.length,
    });
  }
  return tensors;
}

/** The value that each 4-bit code has in the current block. Only 15 of the 16 codes are used. */
const decoded = new Float32Array(16);

function readBlock(
  bytes: Uint8Array,
  offset: number,
  values: Float32Array,
  start: number,
  end: number,
  scale: number,
  name: string,
): number {
  for (let code = 0; code <= 2 * LARGEST; code++) decoded[code] = (code - LARGEST) * scale;
  let at = offset;
  let used = 0;
  const pairs = end - ((end - start) & 1);
  let index = start;
  for (; index < pairs; index += 2) {
    const byte = bytes[at++]!;
    const low = byte & 15;
    const high = byte >>> 4;
    values[index] = decoded[low]!;
    values[index + 1] = decoded[high]!;
    used |= (1 << low) | (1 << high);
  }
  let padding = 0;
  if (index < end) {
    const byte = bytes[at++]!;
    values[index] = decoded[byte & 15]!;
    used |= 1 << (byte & 15);
    padding = byte >>> 4;
  }
  const unused = (used >>> (2 * LARGEST + 1)) | padding;
  const extremes = used & (1 | (1 << (2 * LARGEST)));
  if (extremes === 0 || unused !== 0) {
    const why = unused ? 'an unused code or padding is set' : 'no value of a block has the largest magnitude';
    throw notCanonical(name, why);
  }
  return at;
}
