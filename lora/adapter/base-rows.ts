import { join } from 'node:path';
import type { BaseModel } from '../models/base/base-model.ts';
import type { AdaptedModule } from '../models/lora.ts';
import { weightOf } from '../models/parameters.ts';
import { DTYPE_BYTES, decodeFloats } from '../models/weights/dtypes.ts';
import { floatDtype, tensorChunks } from '../models/weights/safetensors.ts';
import type { TensorLocation } from '../models/weights/tensors.ts';
import type { Delta } from './delta.ts';

/** Maximum bytes of weights in a block. A block has at least one row, even if the row is larger. */
const BLOCK_BYTES = 4 * 2 ** 20;

/**
 * Yields a tensor of the base in blocks of whole rows, where a row extends along the last axis. The memory of a block
 * is reused for the next block.
 */
export async function* rowBlocks(
  dir: string,
  name: string,
  { file, entry }: TensorLocation,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const rowBytes = (entry.shape.at(-1) ?? 1) * DTYPE_BYTES[floatDtype(file, name, entry.dtype)]!;
  const block = Math.max(1, Math.floor(BLOCK_BYTES / rowBytes)) * rowBytes;
  for await (const chunk of tensorChunks(join(dir, file), entry, block)) {
    signal?.throwIfAborted();
    yield chunk;
  }
}

/**
 * Computes the norms that DoRA needs for a module: ‖W + delta‖ of each row, where W has the shape [out, in]. Sums are
 * in double precision.
 * @param delta change of W; null for the norms of W itself
 * @returns [out]
 */
export async function rowNorms(
  model: BaseModel,
  module: AdaptedModule,
  delta: Delta | null,
  signal?: AbortSignal,
): Promise<Float32Array> {
  const name = weightOf(module.name, model.architecture, model.config);
  const location = model.tensors.get(name)!;
  const dtype = floatDtype(location.file, name, location.entry.dtype);
  const width = module.conv1d ? module.out : module.in;
  const squares = new Float64Array(module.out);
  let row = 0;
  for await (const chunk of rowBlocks(model.dir, name, location, signal)) {
    const values = decodeFloats(chunk, dtype);
    for (let start = 0; start < values.length; start += width, row++) {
      const w = values.subarray(start, start + width);
      delta?.addRow(w, row);
      for (let j = 0; j < width; j++) {
        const output = module.conv1d ? j : row;
        squares[output] = squares[output]! + w[j]! * w[j]!;
      }
    }
  }
  return Float32Array.from(squares, Math.sqrt);
}
