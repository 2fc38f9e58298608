import type { SwarmError } from '../../../common/errors.ts';
import { writeDurably } from '../../../common/files/durable.ts';
import { modelError } from '../errors.ts';
import { DTYPE_BYTES, encodeFloats, type FloatDtype } from './dtypes.ts';

/**
 * A tensor to write. `data` holds float32 values, which are converted to `dtype`. In a `StreamedTensor`, `data` may
 * also be a function that returns the bytes in pieces, which are already encoded as `dtype`.
 */
export interface TensorToWrite<Data = Float32Array> {
  readonly name: string;
  readonly dtype: FloatDtype;
  readonly shape: readonly number[];
  readonly data: Data;
}

export type StreamedTensor = TensorToWrite<Float32Array | (() => AsyncIterable<Uint8Array>)>;

/** `format: pt` marks the tensors as PyTorch's; transformers and PEFT refuse files without it. */
export const DEFAULT_METADATA: Readonly<Record<string, string>> = { format: 'pt' };

/**
 * Encodes a safetensors file; equal tensors give equal bytes. Tensors are ordered by descending element size, then by name,
 * so that each tensor starts at a multiple of its element size.
 * @throws SwarmError TENSORS_ENTRY if the values do not fill a tensor's shape
 */
export function encodeSafetensors(
  tensors: readonly TensorToWrite[],
  metadata: Readonly<Record<string, string>> = DEFAULT_METADATA,
): Uint8Array {
  const ordered = order(tensors);
  const head = encodeHeader(ordered, metadata);
  const bytes = new Uint8Array(
    head.byteLength + ordered.reduce((sum, tensor) => sum + byteLength(tensor), 0),
  );
  bytes.set(head);
  let offset = head.byteLength;
  for (const tensor of ordered) {
    bytes.set(encodeFloats(checked(tensor, tensor.data), tensor.dtype), offset);
    offset += byteLength(tensor);
  }
  return bytes;
}

/**
 * Writes a safetensors file with {@link writeDurably}. The file has the bytes that {@link encodeSafetensors} returns.
 * @throws SwarmError TENSORS_ENTRY if the values do not fill a tensor's shape
 */
export async function writeSafetensors(
  path: string,
  tensors: readonly StreamedTensor[],
  metadata: Readonly<Record<string, string>> = DEFAULT_METADATA,
): Promise<void> {
  const ordered = order(tensors);
  await writeDurably(path, async (handle) => {
    await handle.appendFile(encodeHeader(ordered, metadata));
    for (const tensor of ordered) {
      if (tensor.data instanceof Float32Array) {
        await handle.appendFile(encodeFloats(checked(tensor, tensor.data), tensor.dtype));
        continue;
      }
      let written = 0;
      for await (const chunk of tensor.data()) {
        await handle.appendFile(chunk);
        written += chunk.byteLength;
      }
      if (written !== byteLength(tensor)) throw sizeError(tensor, written);
    }
  });
}

function order<T extends StreamedTensor>(tensors: readonly T[]): T[] {
  return [...tensors].sort(
    (a, b) => DTYPE_BYTES[b.dtype]! - DTYPE_BYTES[a.dtype]! || (a.name < b.name ? -1 : 1),
  );
}

function encodeHeader(ordered: readonly StreamedTensor[], metadata: Readonly<Record<string, string>>) {
  const header: Record<string, unknown> = {};
  if (Object.keys(metadata).length > 0)
    header.__metadata__ = Object.fromEntries(Object.entries(metadata).sort(([a], [b]) => (a < b ? -1 : 1)));
  let offset = 0;
  for (const tensor of ordered) {
    const end = offset + byteLength(tensor);
    header[tensor.name] = { dtype: tensor.dtype, shape: tensor.shape, data_offsets: [offset, end] };
    offset = end;
  }
  const json = Buffer.from(JSON.stringify(header));
  // The header is padded with spaces to a multiple of 8 bytes, as the reference writer does, so that the tensors can be
  // memory-mapped.
  const length = Math.ceil(json.byteLength / 8) * 8;
  const bytes = Buffer.alloc(8 + length, ' ');
  bytes.writeBigUInt64LE(BigInt(length), 0);
  json.copy(bytes, 8);
  return bytes;
}

function byteLength(tensor: StreamedTensor): number {
  return tensor.shape.reduce((product, size) => product * size, DTYPE_BYTES[tensor.dtype]!);
}

function checked(tensor: StreamedTensor, values: Float32Array): Float32Array {
  const bytes = values.length * DTYPE_BYTES[tensor.dtype]!;
  if (bytes !== byteLength(tensor)) throw sizeError(tensor, bytes);
  return values;
}

function sizeError(tensor: StreamedTensor, found: number): SwarmError {
  return modelError(
    'TENSORS_ENTRY',
    `tensor ${tensor.name} of shape [${tensor.shape.join(', ')}] needs ${byteLength(tensor)} bytes as ${tensor.dtype}, got ${found}`,
    { tensor: tensor.name, expected: byteLength(tensor), found },
  );
}
