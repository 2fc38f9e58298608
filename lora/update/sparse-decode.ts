import { bytesToWords, peekBits } from './bits.ts';
import { updateError } from './errors.ts';
import { planLayout, type UpdateLayout } from './layout.ts';
import {
  HEADER_BYTES,
  type Preset,
  RATIO_BITS,
  remainderBits,
  SCALE_BITS,
  updateLimits,
  VALUE_BITS,
} from './presets.ts';
import { EMPTY_SCALE } from './scale.ts';
import { type ChunkCode, chunksOf, NEGATIVE, setDecodedValues, type TensorUpdate, UPPER } from './sparse.ts';

const decoded = new Float32Array(4);

/**
 * Masks for the set of value codes that occur in a chunk. The set is a number with one bit for each of the 4
 * codes.
 */
const USES_UPPER = (1 << UPPER) | (1 << (NEGATIVE | UPPER));
const USES_LOWER = (1 << 0) | (1 << NEGATIVE);
const USES_NEGATIVE_LOWER = 1 << NEGATIVE;

interface Source {
  readonly words: Uint32Array;
  position: number;
  /** End of the payload: its length in bits. */
  readonly end: number;
  readonly indices: Uint32Array;
  readonly values: Float32Array;
  count: number;
}

/**
 * Decodes the payload of a sparse update. The amount of memory that it allocates depends only on layout and
 * preset. The untrusted bytes cannot increase it.
 * @throws UPDATE_SIZE when the payload is too short or too long, UPDATE_INDEX, UPDATE_CANONICAL
 */
export function decodeSparse(
  bytes: Uint8Array,
  layout: UpdateLayout,
  preset: Preset,
  kept: number,
): TensorUpdate[] {
  const { maximumValues } = updateLimits(layout, preset);
  const payload = bytes.subarray(HEADER_BYTES);
  const source: Source = {
    words: bytesToWords(payload),
    position: 0,
    end: 8 * payload.length,
    indices: new Uint32Array(maximumValues),
    values: new Float32Array(maximumValues),
    count: 0,
  };
  const tensors = planLayout(layout).sizes.map((size, tensor) => {
    const first = source.count;
    for (const chunk of chunksOf(size, kept))
      readChunk(source, chunk, chunk.start, chunk.length, layout[tensor]!.name);
    return {
      indices: source.indices.subarray(first, source.count),
      values: source.values.subarray(first, source.count),
    };
  });
  checkEnd(source);
  return tensors;
}

function readChunk(
  source: Source,
  { kept, divisor }: ChunkCode,
  start: number,
  length: number,
  name: string,
): void {
  const { words, indices, values, end } = source;
  let bit = source.position;
  if (bit + SCALE_BITS > end) throw truncated(name);
  const scale = peekBits(words, bit) >>> (32 - SCALE_BITS);
  bit += SCALE_BITS;
  source.position = bit;
  if (scale === EMPTY_SCALE) return;
  if (bit + RATIO_BITS > end) throw truncated(name);
  const ratio = peekBits(words, bit) >>> (32 - RATIO_BITS);
  bit += RATIO_BITS;
  setDecodedValues(decoded, scale, ratio);

  const longest = remainderBits(divisor);
  const short = (1 << longest) - divisor;
  const most = 1 + longest + VALUE_BITS;
  const remainderMask = (1 << longest) - 1;
  let count = source.count;
  let expected = 0;
  let used = 0;
  for (let entry = 0; entry < kept; entry++) {
    let window = peekBits(words, bit);
    let quotient = Math.clz32(window);
    if (quotient > 32 - most) {
      // The unary part is so long that the rest of the symbol does not fit into the same window.
      const unary = bit;
      while (window === 0) {
        bit += 32;
        if (bit >= end) throw truncated(name);
        window = peekBits(words, bit);
      }
      quotient = bit - unary + Math.clz32(window);
      bit = unary + quotient;
      window = peekBits(words, bit);
    } else {
      bit += quotient;
      window <<= quotient;
    }
    // Reads the symbol as if its remainder were long. A symbol with a short remainder ends one bit earlier.
    const symbol = window >>> (32 - most);
    const binary = (symbol >>> VALUE_BITS) & remainderMask;
    // Computes 1 if (binary >>> 1) < short, and 0 otherwise. The line has no branch, because mispredicted branches
    // would cost more than the rest of the loop.
    const isShort = ((binary >>> 1) - short) >>> 31;
    bit += most - isShort;
    if (bit > end) throw truncated(name);
    const position = expected + quotient * divisor + (binary >>> isShort) - (short & (isShort - 1));
    if (position >= length) throw outOfBounds(name, start + position, start + length);
    const code = (symbol >>> isShort) & (NEGATIVE | UPPER);
    used |= 1 << code;
    indices[count] = start + position;
    values[count++] = decoded[code]!;
    expected = position + 1;
  }
  source.position = bit;
  source.count = count;
  checkLevels(used, ratio, name);
}

/** Refuses a chunk whose values could have been encoded with another scale and ratio. */
function checkLevels(used: number, ratio: number, name: string): void {
  if ((used & USES_UPPER) === 0) throw notCanonical(name, 'a chunk uses only its lower level');
  if (ratio === 0 ? (used & USES_NEGATIVE_LOWER) !== 0 : (used & USES_LOWER) === 0) {
    throw notCanonical(
      name,
      ratio === 0 ? 'a chunk sends a negative zero' : 'a chunk has a ratio that it does not use',
    );
  }
}

/** Checks that the payload ends in the byte of its last bit, and that the rest of that byte is zero. */
function checkEnd({ words, position, end }: Source): void {
  if (end - position >= 8) {
    throw updateError('UPDATE_SIZE', `the update has ${end - position} bits after its last value`, {
      expected: Math.ceil(position / 8),
      given: end / 8,
    });
  }
  if (position < end && peekBits(words, position) !== 0) {
    throw notCanonical('the last byte', 'bits after the end are set');
  }
}

function truncated(name: string) {
  return updateError('UPDATE_SIZE', `the update ends in the middle of ${name}`, { name });
}

function outOfBounds(name: string, index: number, bound: number) {
  return updateError(
    'UPDATE_INDEX',
    `index ${index} of ${name} is beyond its chunk, which ends at ${bound}`,
    {
      name,
      index,
      bound,
    },
  );
}

function notCanonical(name: string, why: string) {
  return updateError('UPDATE_CANONICAL', `${name} is not in canonical encoding: ${why}`, { name, why });
}
