import type { SwarmError } from '../../../common/errors.ts';
import { modelError } from '../errors.ts';
import { openFile, parseJsonObject } from '../json.ts';
import { DTYPE_BYTES, decodeFloats, type FloatDtype, isFloatDtype } from './dtypes.ts';

/**
 * A tensor in a safetensors file. The format (github.com/huggingface/safetensors, "Format"): 8 bytes with the header length
 * N, little-endian; N bytes of JSON; the tensors, row-major and little-endian, without gaps.
 */
export interface SafetensorsEntry {
  readonly dtype: string;
  readonly shape: readonly number[];
  /** Position of the first byte in the file. */
  readonly offset: number;
  /** Length in bytes: the product of the shape and the element size. */
  readonly length: number;
}

export interface SafetensorsHeader {
  /** Tensors by name, in the order of their bytes. */
  readonly entries: ReadonlyMap<string, SafetensorsEntry>;
  readonly metadata: Readonly<Record<string, string>>;
}

/**
 * Maximum header size of a model file in bytes, enough for 100,000 tensors. The reference implementation allows 100 MB,
 * but parsing that much of an untrusted file would take seconds.
 */
export const MAX_HEADER_BYTES = 16 * 2 ** 20;
/** Maximum number of dimensions. Weights of language models have two, convolutions up to five. */
export const MAX_TENSOR_RANK = 8;
/** Number of bytes per read. It is large enough to keep a disk busy, and takes little memory. */
const CHUNK_BYTES = 4 * 2 ** 20;

const PREFIX_BYTES = 8;

/**
 * Reads and checks the header of a file. Reads nothing else.
 * @throws SwarmError MODEL_FILE_MISSING, TENSORS_HEADER, TENSORS_ENTRY, TENSORS_TRUNCATED
 */
export async function readHeader(path: string, maxBytes = MAX_HEADER_BYTES): Promise<SafetensorsHeader> {
  const { handle, size } = await openFile(path);
  try {
    const prefix = Buffer.alloc(PREFIX_BYTES);
    await handle.read(prefix, 0, PREFIX_BYTES, 0);
    const length = headerLength(prefix, size, path, maxBytes);
    const header = Buffer.alloc(length);
    const { bytesRead } = await handle.read(header, 0, length, PREFIX_BYTES);
    if (bytesRead !== length) throw truncated(path, null, length, bytesRead);
    return parseHeader(header, size, path);
  } finally {
    await handle.close();
  }
}

/**
 * Checks the header of a file in memory, e.g. one received from a peer.
 * @param name name of the file, for errors
 * @throws the errors of readHeader
 */
export function decodeHeader(bytes: Uint8Array, name: string, maxBytes: number): SafetensorsHeader {
  const length = headerLength(bytes, bytes.byteLength, name, maxBytes);
  return parseHeader(bytes.subarray(PREFIX_BYTES, PREFIX_BYTES + length), bytes.byteLength, name);
}

/**
 * Returns the header length from the first 8 bytes of a file of `fileSize` bytes.
 * @throws SwarmError TENSORS_TRUNCATED, TENSORS_HEADER
 */
function headerLength(prefix: Uint8Array, fileSize: number, file: string, maxBytes: number): number {
  if (fileSize < PREFIX_BYTES) throw truncated(file, null, PREFIX_BYTES, fileSize);
  const view = new DataView(prefix.buffer, prefix.byteOffset, PREFIX_BYTES);
  const declared = view.getBigUint64(0, true);
  if (declared > BigInt(maxBytes))
    throw modelError(
      'TENSORS_HEADER',
      `${file}: the header has ${declared} bytes (maximum ${maxBytes}), so this is not a usable safetensors file`,
      { file, expected: maxBytes, found: String(declared) },
    );
  const length = Number(declared);
  if (PREFIX_BYTES + length > fileSize) throw truncated(file, null, PREFIX_BYTES + length, fileSize);
  return length;
}

/**
 * @throws SwarmError TENSORS_HEADER if the JSON is malformed or a key occurs twice
 * @throws SwarmError TENSORS_ENTRY if a tensor's dtype, shape and offsets contradict each other, or tensors
 *   overlap or leave gaps
 * @throws SwarmError TENSORS_TRUNCATED if the file ends before its last tensor does
 */
function parseHeader(header: Uint8Array, fileSize: number, file: string): SafetensorsHeader {
  let json: Record<string, unknown>;
  try {
    json = parseJsonObject(new TextDecoder('utf-8', { fatal: true }).decode(header), file);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw modelError('TENSORS_HEADER', `${file}: the header cannot be read: ${reason}`, { file }, { cause });
  }
  const metadata = parseMetadata(json.__metadata__, file);
  const start = PREFIX_BYTES + header.byteLength;
  const entries = Object.entries(json)
    .filter(([name]) => name !== '__metadata__')
    .map(([name, value]): [string, SafetensorsEntry] => [name, parseEntry(name, value, start, file)])
    .sort(([, a], [, b]) => a.offset - b.offset || a.length - b.length);

  let end = start;
  for (const [name, entry] of entries) {
    if (entry.offset !== end) throw entryError(file, name, 'offset', end - start, entry.offset - start);
    end += entry.length;
    if (end > fileSize) throw truncated(file, name, end, fileSize);
  }
  if (end !== fileSize)
    throw modelError(
      'TENSORS_ENTRY',
      `${file}: the tensors end at byte ${end}, but the file ends at byte ${fileSize}`,
      { file, expected: end, found: fileSize },
    );
  return { entries: new Map(entries), metadata };
}

function parseEntry(name: string, value: unknown, start: number, file: string): SafetensorsEntry {
  const { dtype, shape, data_offsets: offsets } = (value ?? {}) as Record<string, unknown>;
  const bytes =
    typeof dtype === 'string' && Object.hasOwn(DTYPE_BYTES, dtype) ? DTYPE_BYTES[dtype] : undefined;
  if (bytes === undefined) throw entryError(file, name, 'dtype', Object.keys(DTYPE_BYTES).join(' '), dtype);
  if (!isCounts(shape) || shape.length > MAX_TENSOR_RANK)
    throw entryError(file, name, 'shape', `at most ${MAX_TENSOR_RANK} whole numbers`, shape);
  if (!isCounts(offsets) || offsets.length !== 2 || offsets[0]! > offsets[1]!)
    throw entryError(file, name, 'data_offsets', 'two ascending whole numbers', offsets);
  // Computes in BigInt. A product beyond 2^53 or 2^64 would be rounded or wrap around, and could match by accident.
  const expected = shape.reduce((product, size) => product * BigInt(size), BigInt(bytes));
  const length = offsets[1]! - offsets[0]!;
  if (expected !== BigInt(length))
    throw entryError(
      file,
      name,
      `length of ${dtype} [${shape.join(', ')}] in bytes`,
      String(expected),
      length,
    );
  return { dtype: dtype as string, shape, offset: start + offsets[0]!, length };
}

function parseMetadata(value: unknown, file: string): Record<string, string> {
  if (value === undefined) return {};
  if (
    typeof value !== 'object' ||
    value === null ||
    Array.isArray(value) ||
    !Object.values(value).every((text) => typeof text === 'string')
  )
    throw modelError('TENSORS_HEADER', `${file}: __metadata__ is not an object of strings`, { file });
  return value as Record<string, string>;
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0);
}

/**
 * Yields the bytes of a tensor in chunks of whole elements. The memory of a chunk is reused for the next chunk.
 * @param chunkBytes a multiple of the element size. @default 4 MiB
 * @throws SwarmError TENSORS_TRUNCATED if the file has shrunk since its header was read
 */
export async function* tensorChunks(
  path: string,
  entry: SafetensorsEntry,
  chunkBytes = CHUNK_BYTES,
): AsyncGenerator<Uint8Array> {
  const { handle } = await openFile(path);
  try {
    const buffer = new Uint8Array(Math.min(chunkBytes, entry.length));
    for (let done = 0; done < entry.length; ) {
      const length = Math.min(buffer.byteLength, entry.length - done);
      let filled = 0;
      while (filled < length) {
        const { bytesRead } = await handle.read(
          buffer,
          filled,
          length - filled,
          entry.offset + done + filled,
        );
        if (bytesRead === 0) throw truncated(path, null, entry.length, done + filled);
        filled += bytesRead;
      }
      yield buffer.subarray(0, length);
      done += length;
    }
  } finally {
    await handle.close();
  }
}

/** Reads a whole tensor and converts it to float32. @throws SwarmError TENSORS_DTYPE, TENSORS_TRUNCATED */
export async function readTensor(path: string, entry: SafetensorsEntry): Promise<Float32Array> {
  const dtype = floatDtype(path, null, entry.dtype);
  const values = new Float32Array(entry.length / DTYPE_BYTES[dtype]!);
  let done = 0;
  for await (const chunk of tensorChunks(path, entry)) {
    const part = decodeFloats(chunk, dtype);
    values.set(part, done);
    done += part.length;
  }
  return values;
}

/**
 * Checks that weights can be read from an element type. @throws SwarmError TENSORS_DTYPE if it is not F32, F16 or BF16
 */
export function floatDtype(file: string, tensor: string | null, dtype: string): FloatDtype {
  if (isFloatDtype(dtype)) return dtype;
  throw modelError(
    'TENSORS_DTYPE',
    `${file}: ${tensor ?? 'a tensor'} is stored as ${dtype}, expected F32, F16 or BF16`,
    { file, tensor, expected: 'F32 F16 BF16', found: dtype },
  );
}

function truncated(file: string, tensor: string | null, expected: number, found: number): SwarmError {
  return modelError(
    'TENSORS_TRUNCATED',
    `${file} is cut off: it has ${found} bytes, but ${tensor ?? 'its header'} needs ${expected}`,
    { file, tensor, expected, found },
  );
}

function entryError(file: string, tensor: string, what: string, expected: unknown, found: unknown) {
  return modelError(
    'TENSORS_ENTRY',
    `${file}: tensor ${tensor}: ${what} is ${JSON.stringify(found)}, expected ${expected}`,
    { file, tensor, what, expected, found },
  );
}
