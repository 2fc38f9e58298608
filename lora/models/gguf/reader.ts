import type { FileHandle } from 'node:fs/promises';
import { modelError } from '../errors.ts';
import { openFile } from '../json.ts';
import { decodeBlocks } from './blocks.ts';
import { Cursor, type GgufValue, NeedMoreBytes } from './cursor.ts';
import {
  aligned,
  DEFAULT_ALIGNMENT,
  MAGIC,
  MAX_NAME_BYTES,
  otherTypeName,
  TENSOR_FORMATS,
  type TensorType,
  tensorTypeOf,
} from './format.ts';

/** A tensor in a GGUF file. */
export interface GgufTensor {
  readonly type: TensorType;
  /** Shape in row-major order (the last axis is contiguous), as in safetensors. The file lists the axes in reverse. */
  readonly shape: readonly number[];
  /** Position of the tensor's first byte in the file. */
  readonly offset: number;
  /** Length of the tensor's data in bytes. */
  readonly length: number;
}

export interface GgufHeader {
  readonly metadata: ReadonlyMap<string, GgufValue>;
  /** Tensors by name, in the order of the file. */
  readonly tensors: ReadonlyMap<string, GgufTensor>;
}

/** Maximum size of the header in bytes. A vocabulary of 262,144 tokens with its merges takes about 16 MB. */
export const MAX_GGUF_HEADER_BYTES = 128 * 2 ** 20;
/** Maximum number of tensors. Llama 3.1 405B has 1,138. */
export const MAX_TENSORS = 100_000;
/** Maximum number of metadata keys; files have a few dozen. */
export const MAX_KEYS = 10_000;
/** Maximum length of a key in bytes, which the GGUF format sets. */
const MAX_KEY_BYTES = 65_535;
/** Maximum number of dimensions of a tensor, which the GGUF format sets. */
const MAX_DIMENSIONS = 4;
/** Maximum alignment in bytes. Files use 32, and page sizes are far smaller than this. */
const MAX_ALIGNMENT = 2 ** 20;
/** Number of bytes that are read before the first attempt to parse the header. */
const FIRST_READ_BYTES = 2 ** 20;
/** Bytes per read of tensor data. */
const CHUNK_BYTES = 4 * 2 ** 20;

/**
 * Reads and checks the header of a GGUF file: metadata and the list of tensors. Every size in the header is checked
 * against the size of the file before anything is allocated for it. Reads no tensor data.
 *
 * @throws SwarmError MODEL_FILE_MISSING
 * @throws SwarmError GGUF_HEADER if the file is not a GGUF file, or its header contradicts itself
 * @throws SwarmError GGUF_TRUNCATED if the file ends before its last tensor does
 * @throws SwarmError GGUF_UNSUPPORTED if the version, the byte order or a tensor's type is not supported
 */
export async function readGguf(path: string): Promise<GgufHeader> {
  const { handle, size } = await openFile(path);
  try {
    // The length of the header is not stored in the file. If the header is longer than the bytes that have been read,
    // it is parsed again with more bytes.
    for (let bytes = FIRST_READ_BYTES; ; bytes *= 4) {
      const start = await readStart(handle, Math.min(bytes, size, MAX_GGUF_HEADER_BYTES));
      try {
        return parseGguf(start, size, path);
      } catch (error) {
        if (!(error instanceof NeedMoreBytes)) throw error;
        if (bytes >= MAX_GGUF_HEADER_BYTES)
          throw modelError(
            'GGUF_HEADER',
            `${path}: the header is longer than ${MAX_GGUF_HEADER_BYTES} bytes`,
            {
              file: path,
              expected: MAX_GGUF_HEADER_BYTES,
            },
          );
      }
    }
  } finally {
    await handle.close();
  }
}

async function readStart(handle: FileHandle, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  let filled = 0;
  while (filled < length) {
    const { bytesRead } = await handle.read(bytes, filled, length - filled, filled);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return bytes.subarray(0, filled);
}

/**
 * Parses the header of a file.
 * @param start the first bytes of the file
 * @param file name of the file, for errors
 * @throws NeedMoreBytes if the header is longer than `start`
 * @throws the errors of readGguf
 */
export function parseGguf(start: Uint8Array, fileSize: number, file: string): GgufHeader {
  const cursor = new Cursor(start, fileSize, file);
  if (cursor.u32() !== MAGIC) throw cursor.malformed('it does not start with "GGUF"', 'magic');
  const version = cursor.u32();
  // If the file is in big-endian order, its version appears in the highest byte of the number.
  if (version !== 2 && version !== 3)
    throw unsupported(file, version % 2 ** 24 === 0 ? 'big-endian byte order' : `version ${version}`);
  const tensorCount = cursor.count('the number of tensors', MAX_TENSORS);
  const keyCount = cursor.count('the number of keys', MAX_KEYS);
  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < keyCount; i++) {
    const key = cursor.string('a key', MAX_KEY_BYTES);
    if (metadata.has(key)) throw cursor.malformed(`the key ${JSON.stringify(key)} occurs twice`, key);
    metadata.set(key, cursor.value(key));
  }
  const alignment = metadata.get('general.alignment') ?? DEFAULT_ALIGNMENT;
  if (typeof alignment !== 'number' || !isAlignment(alignment))
    throw cursor.malformed(`general.alignment is ${String(alignment).slice(0, 40)}`, 'general.alignment');
  const declared = new Map<string, Omit<GgufTensor, 'length'> & { length: bigint }>();
  for (let i = 0; i < tensorCount; i++) {
    const [name, tensor] = readTensorInfo(cursor, file, alignment);
    if (declared.has(name)) throw cursor.malformed(`the tensor ${name} occurs twice`, name);
    declared.set(name, tensor);
  }
  const data = aligned(cursor.position, alignment);
  const tensors = new Map<string, GgufTensor>();
  for (const [name, { length, ...tensor }] of declared) {
    const end = BigInt(data) + BigInt(tensor.offset) + length;
    if (end > BigInt(fileSize))
      throw modelError(
        'GGUF_TRUNCATED',
        `${file} is cut off: it has ${fileSize} bytes, but ${name} needs ${end}`,
        { file, tensor: name, expected: String(end), found: fileSize },
      );
    tensors.set(name, { ...tensor, offset: data + tensor.offset, length: Number(length) });
  }
  refuseOverlap(tensors, cursor);
  return { metadata, tensors };
}

function isAlignment(value: number): boolean {
  return Number.isInteger(value) && value > 0 && value <= MAX_ALIGNMENT && value % 8 === 0;
}

function readTensorInfo(cursor: Cursor, file: string, alignment: number) {
  const name = cursor.string('the name of a tensor', MAX_NAME_BYTES);
  const dimensions = cursor.u32();
  if (dimensions < 1 || dimensions > MAX_DIMENSIONS)
    throw cursor.malformed(`${name} has ${dimensions} dimensions (maximum ${MAX_DIMENSIONS})`, name);
  const reversed = Array.from({ length: dimensions }, () =>
    cursor.count(`a dimension of ${name}`, Number.MAX_SAFE_INTEGER),
  );
  if (reversed.includes(0)) throw cursor.malformed(`${name} has a dimension of 0`, name);
  const id = cursor.u32();
  const type = tensorTypeOf(id);
  if (type === null)
    throw unsupported(file, `tensor type ${otherTypeName(id)} (${name})`, {
      type: otherTypeName(id),
      tensor: name,
    });
  const { weights, bytes } = TENSOR_FORMATS[type];
  if (reversed[0]! % weights !== 0)
    throw cursor.malformed(`rows of ${name} have ${reversed[0]} weights, not a multiple of ${weights}`, name);
  const offset = cursor.count(`the offset of ${name}`, Number.MAX_SAFE_INTEGER);
  if (offset % alignment !== 0) throw cursor.malformed(`${name} is not aligned to ${alignment} bytes`, name);
  // Computes in BigInt, because a product beyond 2^53 would be rounded.
  const count = reversed.reduce((product, size) => product * BigInt(size), 1n);
  const length = (count / BigInt(weights)) * BigInt(bytes);
  return [name, { type, shape: reversed.reverse(), offset, length }] as const;
}

function refuseOverlap(tensors: ReadonlyMap<string, GgufTensor>, cursor: Cursor): void {
  let end = 0;
  for (const [name, { offset, length }] of [...tensors].sort(([, a], [, b]) => a.offset - b.offset)) {
    if (offset < end) throw cursor.malformed(`${name} overlaps another tensor`, name);
    end = offset + length;
  }
}

function unsupported(file: string, what: string, values: Record<string, unknown> = {}) {
  return modelError('GGUF_UNSUPPORTED', `${file} uses ${what}, which is not supported`, {
    file,
    what,
    ...values,
  });
}

/**
 * Yields the weights of a tensor as float32, in order, in pieces of at most about a million weights.
 * @throws SwarmError GGUF_TRUNCATED if the file has shrunk since its header was read
 */
export async function* tensorFloats(
  path: string,
  { type, offset, length }: GgufTensor,
  signal?: AbortSignal,
): AsyncGenerator<Float32Array> {
  for await (const bytes of tensorBytes(path, { type, offset, length }, signal))
    yield decodeBlocks(bytes, type);
}

/** Yields the bytes of a tensor in pieces of whole blocks. Each piece is a new array. */
export async function* tensorBytes(
  path: string,
  { type, offset, length }: Pick<GgufTensor, 'type' | 'offset' | 'length'>,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const block = TENSOR_FORMATS[type].bytes;
  const most = Math.floor(CHUNK_BYTES / block) * block;
  const { handle } = await openFile(path);
  try {
    for (let done = 0; done < length; ) {
      signal?.throwIfAborted();
      const bytes = new Uint8Array(Math.min(most, length - done));
      for (let filled = 0; filled < bytes.byteLength; ) {
        const at = offset + done + filled;
        const { bytesRead } = await handle.read(bytes, filled, bytes.byteLength - filled, at);
        if (bytesRead === 0)
          throw modelError('GGUF_TRUNCATED', `${path} is cut off: it ends at byte ${at}`, {
            file: path,
            expected: offset + length,
            found: at,
          });
        filled += bytesRead;
      }
      yield bytes;
      done += bytes.byteLength;
    }
  } finally {
    await handle.close();
  }
}
