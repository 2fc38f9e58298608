/** Converts the values of tensors between the layouts of GGUF and of Hugging Face files (see `TensorChange`). */
import type { TensorChange } from './tensor-names.ts';

/** Values of a tensor in order, in pieces. */
export type Floats = AsyncIterable<Float32Array> | Iterable<Float32Array>;

/** Direction of a conversion. */
export type Direction = 'toGguf' | 'fromGguf';

/**
 * Converts a tensor. Holds a few MiB in memory, or the whole tensor if it is transposed.
 * @param shape shape in Hugging Face's layout
 */
export function convertTensor(
  values: Floats,
  change: TensorChange,
  shape: readonly number[],
  direction: Direction,
): Floats {
  switch (change.kind) {
    case 'permuted':
      return permuted(values, change.headDim, shape[1] ?? 1, direction);
    case 'transposed':
      return transposed(values, direction === 'toGguf' ? shape : [...shape].reverse());
    case 'shifted':
      return shifted(values, direction === 'toGguf' ? 1 : -1);
    default:
      return values;
  }
}

/**
 * Changes the order of the rows in each head of D rows. For h = 0 and h = 1, row 2·i + h in GGUF is row i + h·D/2 in
 * Hugging Face's layout.
 */
async function* permuted(
  values: Floats,
  headDim: number,
  width: number,
  direction: Direction,
): AsyncGenerator<Float32Array> {
  for await (const head of piecesOf(values, headDim * width)) {
    const out = new Float32Array(head.length);
    for (let inGguf = 0; inGguf < headDim; inGguf++) {
      const other = (inGguf >> 1) + (inGguf & 1) * (headDim / 2);
      const [from, to] = direction === 'toGguf' ? [other, inGguf] : [inGguf, other];
      out.set(head.subarray(from * width, (from + 1) * width), to * width);
    }
    yield out;
  }
}

/** Transposes a matrix: [rows, columns] → [columns, rows]. */
async function* transposed(values: Floats, [rows, columns]: readonly number[]): AsyncGenerator<Float32Array> {
  const [height, width] = [rows!, columns!];
  for await (const matrix of piecesOf(values, height * width)) {
    const out = new Float32Array(matrix.length);
    for (let i = 0; i < height; i++)
      for (let j = 0; j < width; j++) out[j * height + i] = matrix[i * width + j]!;
    yield out;
  }
}

async function* shifted(values: Floats, by: number): AsyncGenerator<Float32Array> {
  for await (const piece of values) yield piece.map((value) => value + by);
}

/** Splits a stream of values into pieces of `size` values. The last piece may be shorter. */
export async function* piecesOf(values: Floats, size: number): AsyncGenerator<Float32Array> {
  let piece = new Float32Array(size);
  let filled = 0;
  for await (const part of values) {
    for (let taken = 0; taken < part.length; ) {
      const count = Math.min(part.length - taken, size - filled);
      piece.set(part.subarray(taken, taken + count), filled);
      taken += count;
      filled += count;
      if (filled < size) continue;
      yield piece;
      piece = new Float32Array(size);
      filled = 0;
    }
  }
  if (filled > 0) yield piece.subarray(0, filled);
}
