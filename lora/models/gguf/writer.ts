import type { FileHandle } from 'node:fs/promises';
import { writeDurably } from '../../../common/files/durable.ts';
import { modelError } from '../errors.ts';
import { encodeBlocks, type WrittenType } from './blocks.ts';
import {
  aligned,
  DEFAULT_ALIGNMENT,
  MAGIC,
  MAX_NAME_BYTES,
  TENSOR_FORMATS,
  VALUE_TYPES,
  type ValueType,
  VERSION,
} from './format.ts';

/** Types of the metadata values that this program writes. `[]` marks an array. */
export type WrittenValue =
  | { readonly type: 'u32' | 'i32' | 'f32'; readonly value: number }
  | { readonly type: 'bool'; readonly value: boolean }
  | { readonly type: 'string'; readonly value: string }
  | { readonly type: 'i32[]' | 'f32[]'; readonly value: readonly number[] }
  | { readonly type: 'string[]'; readonly value: readonly string[] };

/** Metadata in the order of the file. */
export type WrittenMetadata = ReadonlyMap<string, WrittenValue>;

/** A tensor to write. */
export interface GgufTensorToWrite {
  readonly name: string;
  readonly type: WrittenType;
  /** Shape in row-major order: the last axis is contiguous. */
  readonly shape: readonly number[];
  /**
   * Yields the weights in order. Every piece except the last has a multiple of 32 weights, so that no block
   * of a quantised type is split between two pieces.
   */
  readonly data: () => AsyncIterable<Float32Array> | Iterable<Float32Array>;
}

export interface WriteGgufOptions {
  /** Called after each piece with the bytes of tensor data written so far, and with the total number of bytes. */
  readonly onProgress?: (done: number, total: number) => void;
  readonly signal?: AbortSignal;
}

/**
 * Writes a GGUF file with {@link writeDurably}. Tensors stream through memory.
 * @returns the size of the file in bytes
 * @throws SwarmError GGUF_WRITE if a tensor's name is too long, its rows do not consist of whole blocks, or
 *   its data do not fill its shape
 */
export async function writeGguf(
  path: string,
  metadata: WrittenMetadata,
  tensors: readonly GgufTensorToWrite[],
  { onProgress = () => {}, signal }: WriteGgufOptions = {},
): Promise<number> {
  for (const tensor of tensors) check(tensor);
  const header = encodeHeader(metadata, tensors);
  const total = tensors.reduce((sum, tensor) => sum + byteLength(tensor), 0);
  let size = header.byteLength;
  let done = 0;
  await writeDurably(path, async (handle) => {
    await handle.appendFile(header);
    for (const tensor of tensors) {
      let written = 0;
      for await (const values of tensor.data()) {
        signal?.throwIfAborted();
        const bytes = encodeBlocks(values, tensor.type);
        await handle.appendFile(bytes);
        written += bytes.byteLength;
        onProgress(done + written, total);
      }
      if (written !== byteLength(tensor))
        throw writeError(tensor, `needs ${byteLength(tensor)} bytes as ${tensor.type}, got ${written}`);
      done += written;
      size += written + (await pad(handle, size + written));
    }
  });
  return size;
}

/** Appends zeros up to the next multiple of the alignment. @returns the number of zeros */
async function pad(handle: FileHandle, position: number): Promise<number> {
  const count = aligned(position, DEFAULT_ALIGNMENT) - position;
  if (count > 0) await handle.appendFile(new Uint8Array(count));
  return count;
}

function check(tensor: GgufTensorToWrite): void {
  const { weights } = TENSOR_FORMATS[tensor.type];
  if (Buffer.byteLength(tensor.name) > MAX_NAME_BYTES)
    throw writeError(tensor, `has a name of more than ${MAX_NAME_BYTES} bytes`);
  if ((tensor.shape.at(-1) ?? 0) % weights !== 0)
    throw writeError(
      tensor,
      `cannot be stored as ${tensor.type}, because its row length is not a multiple of ${weights}`,
    );
}

function writeError({ name, shape }: GgufTensorToWrite, reason: string) {
  return modelError('GGUF_WRITE', `tensor ${name} of shape [${shape.join(', ')}] ${reason}`, {
    tensor: name,
  });
}

function byteLength({ type, shape }: GgufTensorToWrite): number {
  const { weights, bytes } = TENSOR_FORMATS[type];
  return (shape.reduce((product, size) => product * size, 1) / weights) * bytes;
}

/** Encodes everything before the tensors' data, padded to the alignment. */
function encodeHeader(metadata: WrittenMetadata, tensors: readonly GgufTensorToWrite[]): Uint8Array {
  const parts: Uint8Array[] = [u32(MAGIC), u32(VERSION), u64(tensors.length), u64(metadata.size)];
  for (const [key, value] of metadata) parts.push(texts([key]), encodeValue(value));
  let offset = 0;
  for (const tensor of tensors) {
    const { name, type, shape } = tensor;
    parts.push(texts([name]), u32(shape.length), ...[...shape].reverse().map(u64));
    parts.push(u32(TENSOR_FORMATS[type].id), u64(offset));
    offset = aligned(offset + byteLength(tensor), DEFAULT_ALIGNMENT);
  }
  const header = Buffer.concat(parts);
  return Buffer.concat([header, new Uint8Array(aligned(header.length, DEFAULT_ALIGNMENT) - header.length)]);
}

function encodeValue({ type, value }: WrittenValue): Uint8Array {
  const name = type.replace('[]', '') as Exclude<ValueType, 'array'>;
  const values = (Array.isArray(value) ? value : [value]) as (number | boolean | string)[];
  const encoded = name === 'string' ? texts(values as string[]) : numbers(name, values.map(Number));
  const id = u32(VALUE_TYPES[name]);
  return Buffer.concat(
    Array.isArray(value) ? [u32(VALUE_TYPES.array), id, u64(values.length), encoded] : [id, encoded],
  );
}

/**
 * Encodes texts into one array, because a vocabulary has hundreds of thousands of texts. The length of each text in
 * bytes precedes the text.
 */
function texts(values: readonly string[]): Uint8Array {
  const lengths = values.map((value) => Buffer.byteLength(value));
  const bytes = Buffer.alloc(lengths.reduce((sum, length) => sum + 8 + length, 0));
  let at = 0;
  for (const [i, value] of values.entries()) {
    at = bytes.writeBigUInt64LE(BigInt(lengths[i]!), at);
    at += bytes.write(value, at);
  }
  return bytes;
}

function numbers(type: string, values: readonly number[]): Uint8Array {
  if (type === 'bool') return Uint8Array.from(values);
  const bytes = Buffer.alloc(4 * values.length);
  let at = 0;
  for (const value of values) {
    if (type === 'f32') at = bytes.writeFloatLE(value, at);
    else if (type === 'i32') at = bytes.writeInt32LE(value, at);
    else at = bytes.writeUInt32LE(value, at);
  }
  return bytes;
}

function u32(value: number): Uint8Array {
  return numbers('u32', [value]);
}

function u64(value: number): Uint8Array {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}
