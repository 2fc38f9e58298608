import { putBits, wordsToBytes } from './bits.ts';
import { updateError } from './errors.ts';
import type { UpdateLayout } from './layout.ts';
import {
  CHUNK_VALUES,
  HEADER_BYTES,
  type Preset,
  RATIO_BITS,
  remainderBits,
  SCALE_BITS,
  updateLimits,
  VALUE_BITS,
} from './presets.ts';
import { type Levels, lloydLevels, magnitudesOf, OUT_OF_RANGE } from './quantise.ts';
import { EMPTY_SCALE } from './scale.ts';
import { NON_FINITE, selectLargest } from './select.ts';
import { type ChunkCode, chunksOf, NEGATIVE, setDecodedValues, type TensorUpdate } from './sparse.ts';

const positions = new Uint32Array(CHUNK_VALUES);
const magnitudes = magnitudesOf(CHUNK_VALUES);
const decoded = new Float32Array(4);
const levels: Levels = { scale: 0, ratio: 0, threshold: 0 };

/** Output of the encoder: the bits, and the entries that a decoder gets from these bits. */
interface Sink {
  readonly words: Uint32Array;
  position: number;
  readonly indices: Uint32Array;
  readonly values: Float32Array;
  count: number;
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
  const sink: Sink = {
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
      if (selected === NON_FINITE) throw refused(layout[tensor]!.name, 'is not finite');
      for (let entry = 0; entry < selected; entry++) {
        magnitudes.patterns[entry] = patterns[chunk.start + positions[entry]!]! & 0x7fffffff;
      }
      lloydLevels(magnitudes, selected, levels);
      if (levels.scale === OUT_OF_RANGE) throw refused(layout[tensor]!.name, 'exceeds the largest scale');
      writeChunk(sink, chunk, patterns, chunk.start);
    }
    return {
      indices: sink.indices.subarray(first, sink.count),
      values: sink.values.subarray(first, sink.count),
    };
  });
  const bytes = new Uint8Array(HEADER_BYTES + Math.ceil(sink.position / 8));
  wordsToBytes(sink.words, bytes.subarray(HEADER_BYTES));
  return { bytes, tensors: sent };
}

/** Writes the selected values of one chunk with the quantisation levels that were chosen for this chunk. */
function writeChunk(sink: Sink, { kept, divisor }: ChunkCode, patterns: Uint32Array, start: number): void {
  const { words, indices, values } = sink;
  let bit = sink.position;
  putBits(words, bit, levels.scale, SCALE_BITS);
  bit += SCALE_BITS;
  if (levels.scale !== EMPTY_SCALE) {
    putBits(words, bit, levels.ratio, RATIO_BITS);
    bit += RATIO_BITS;
    setDecodedValues(decoded, levels.scale, levels.ratio);
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

function refused(name: string, why: string) {
  return updateError('UPDATE_VALUES', `a value of ${name} ${why}`, {
    name,
    why,
  });
}
