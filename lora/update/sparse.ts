import { bytesToWords, peekBits, putBits, wordsToBytes } from './bits.ts';
import { notCanonical, notEncodable, truncated, updateError } from './errors.ts';
import {
  CHUNK_VALUES,
  golombDivisor,
  HEADER_BYTES,
  keptCount,
  type Preset,
  planLayout,
  RATIO_BITS,
  remainderBits,
  SCALE_BITS,
  type TensorUpdate,
  type UpdateLayout,
  updateLimits,
  VALUE_BITS,
} from './format.ts';
import {
  EMPTY_SCALE,
  type Levels,
  lloydLevels,
  magnitudesOf,
  NON_FINITE,
  OUT_OF_RANGE,
  RATIO_STEPS,
  scaleValue,
  selectLargest,
} from './quantise.ts';

/**
 * Bits of the code of a kept value. NEGATIVE is set if the value is negative, UPPER if its magnitude is the larger of
 * the two levels of its chunk.
 */
const NEGATIVE = 2;
const UPPER = 1;

/** A part of a tensor, and the parameters that encode its kept values. */
interface Chunk {
  readonly start: number;
  readonly length: number;
  readonly kept: number;
  /** Divisor of the Golomb codes of the gaps between the indices of the kept values. */
  readonly divisor: number;
}

/** Lists the chunks of a tensor of `size` values: full chunks, then at most one shorter chunk. */
function* chunksOf(size: number, keptOfFull: number): Generator<Chunk> {
  for (let start = 0; start < size; start += CHUNK_VALUES) {
    const length = Math.min(CHUNK_VALUES, size - start);
    const kept = keptCount(length, keptOfFull);
    yield { start, length, kept, divisor: golombDivisor(length, kept) };
  }
}

// Memory that every chunk uses again: the kept values of a chunk, and the value that each code stands for.
const positions = new Uint32Array(CHUNK_VALUES);
const magnitudes = magnitudesOf(CHUNK_VALUES);
const decoded = new Float32Array(4);
const levels: Levels = { scale: 0, ratio: 0, threshold: 0 };

/**
 * Sets `decoded[code]` to the value that each of the four codes of a chunk stands for. The values are exact
 * products, so they are equal on every machine.
 */
function setDecodedValues(scale: number, ratio: number): void {
  const upper = scaleValue(scale);
  const lower = (upper * ratio) / RATIO_STEPS;
  decoded[0] = lower;
  decoded[UPPER] = upper;
  decoded[NEGATIVE] = -lower;
  decoded[NEGATIVE | UPPER] = -upper;
}

/** The bits of a payload up to a position, and the entries that these bits stand for. */
interface Payload {
  readonly words: Uint32Array;
  position: number;
  readonly indices: Uint32Array;
  readonly values: Float32Array;
  count: number;
}

function entriesSince(first: number, { indices, values, count }: Payload): TensorUpdate {
  return { indices: indices.subarray(first, count), values: values.subarray(first, count) };
}

/**
 * Encodes a sparse update. From every chunk, only the values of largest magnitude are sent. Their magnitudes are
 * rounded to two levels, which `lloydLevels` chooses for each chunk.
 * @returns `bytes`: the payload, after `HEADER_BYTES` zero bytes that the caller overwrites with the header; `tensors`:
 *   the values that a decoder gets from the payload
 * @throws UPDATE_VALUES when a value is too large or not finite
 */
export function encodeSparse(
  layout: UpdateLayout,
  tensors: readonly Float32Array[],
  preset: Preset,
  kept: number,
): { bytes: Uint8Array; tensors: TensorUpdate[] } {
  const limits = updateLimits(layout, preset);
  const sink: Payload = {
    words: new Uint32Array(Math.ceil(limits.maximumBytes / 4) + 1),
    position: 0,
    indices: new Uint32Array(limits.maximumValues),
    values: new Float32Array(limits.maximumValues),
    count: 0,
  };
  const sent = tensors.map((values, tensor) => {
    const patterns = new Uint32Array(values.buffer, values.byteOffset, values.length);
    const first = sink.count;
    for (const chunk of chunksOf(values.length, kept)) {
      const selected = selectLargest(patterns, chunk.start, chunk.length, chunk.kept, positions);
      if (selected === NON_FINITE) throw notEncodable(layout[tensor]!.name);
      for (let entry = 0; entry < selected; entry++) {
        magnitudes.patterns[entry] = patterns[chunk.start + positions[entry]!]! & 0x7fffffff;
      }
      lloydLevels(magnitudes, selected, levels);
      if (levels.scale === OUT_OF_RANGE) throw notEncodable(layout[tensor]!.name);
      writeChunk(sink, chunk, patterns);
    }
    return entriesSince(first, sink);
  });
  const bytes = new Uint8Array(HEADER_BYTES + Math.ceil(sink.position / 8));
  wordsToBytes(sink.words, bytes.subarray(HEADER_BYTES));
  return { bytes, tensors: sent };
}

/** Writes the selected values of one chunk with the quantisation levels that were chosen for this chunk. */
function writeChunk(sink: Payload, { start, kept, divisor }: Chunk, patterns: Uint32Array): void {
  const { words, indices, values } = sink;
  let bit = sink.position;
  putBits(words, bit, levels.scale, SCALE_BITS);
  bit += SCALE_BITS;
  if (levels.scale !== EMPTY_SCALE) {
    putBits(words, bit, levels.ratio, RATIO_BITS);
    bit += RATIO_BITS;
    setDecodedValues(levels.scale, levels.ratio);
    const { threshold } = levels;
    // A lower level of zero has no sign, because −0 would be a second encoding of it.
    const lowerSign = levels.ratio === 0 ? 0 : NEGATIVE;
    const longest = remainderBits(divisor);
    // Remainders below this number take one bit less (truncated binary code).
    const short = (1 << longest) - divisor;
    // Computes gap / divisor as a multiplication, which is exact for gaps below 2¹² and divisors below 2⁸.
    const reciprocal = Math.ceil(2 ** 20 / divisor);
    let count = sink.count;
    let expected = 0;
    // Avoids branches, because the bits of an update are random and mispredicted branches would cost more than the
    // rest of the loop.
    for (let entry = 0; entry < kept; entry++) {
      const position = positions[entry]!;
      const gap = position - expected;
      expected = position + 1;
      const upper = (threshold - magnitudes.patterns[entry]!) >>> 31;
      const sign = (patterns[start + position]! >>> 30) & (lowerSign | (upper << 1));
      const code = sign | upper;
      const quotient = Math.imul(gap, reciprocal) >>> 20;
      const remainder = gap - quotient * divisor;
      const isShort = (remainder - short) >>> 31;
      const binary = remainder + (short & (isShort - 1));
      const width = 1 + longest - isShort + VALUE_BITS;
      // The unary part is `quotient` zero bits. The words are zero already, so these bits are only skipped.
      bit += quotient;
      putBits(words, bit, (1 << (width - 1)) | (binary << VALUE_BITS) | code, width);
      bit += width;
      indices[count] = start + position;
      values[count++] = decoded[code]!;
    }
    sink.count = count;
  }
  sink.position = bit;
}

/** Masks for the set of value codes that occur in a chunk: a number with one bit for each of the 4 codes. */
const USES_UPPER = (1 << UPPER) | (1 << (NEGATIVE | UPPER));
const USES_LOWER = (1 << 0) | (1 << NEGATIVE);
const USES_NEGATIVE_LOWER = 1 << NEGATIVE;

interface Source extends Payload {
  /** Length of the payload in bits. */
  readonly end: number;
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
    for (const chunk of chunksOf(size, kept)) readChunk(source, chunk, layout[tensor]!.name);
    return entriesSince(first, source);
  });
  checkEnd(source);
  return tensors;
}

function readChunk(source: Source, { start, length, kept, divisor }: Chunk, name: string): void {
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
  setDecodedValues(scale, ratio);

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
  if (ratio === 0 && (used & USES_NEGATIVE_LOWER) !== 0) {
    throw notCanonical(name, 'a chunk sends a negative zero');
  }
  if (ratio !== 0 && (used & USES_LOWER) === 0) {
    throw notCanonical(name, 'a chunk has a ratio that it does not use');
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

function outOfBounds(name: string, index: number, bound: number) {
  const message = `index ${index} of ${name} is beyond its chunk, which ends at ${bound}`;
  return updateError('UPDATE_INDEX', message, { name, index, bound });
}
