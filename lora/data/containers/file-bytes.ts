/** Reads a file as a stream of bytes or text, decompressed. Only a few chunks are in memory at a time. */

import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { pipeline } from 'node:stream';
import * as zlib from 'node:zlib';
import { fromSystem, isSwarmError, type SwarmError } from '../../../common/errors.ts';
import { dataError } from '../errors.ts';
import { cutFrames } from './zstd-frames.ts';

/** Bytes per read and per decompressed chunk. At this size the overhead of each call is negligible. */
const CHUNK_BYTES = 256 * 1024;

const GZIP = [0x1f, 0x8b];
const ZSTD = [0x28, 0xb5, 0x2f, 0xfd];
/** The second to the fourth byte of a skippable frame. The first byte can have sixteen values. */
const ZSTD_SKIPPABLE = [0x2a, 0x4d, 0x18];

export interface ByteOptions {
  signal?: AbortSignal;
  /** Receives the number of compressed bytes that were read from the file since the last call. */
  onBytes?: (count: number) => void;
}

/**
 * Reads a file in chunks. Gzip and zstd are recognised by their first bytes, not by the file's name, and decompressed
 * while reading. A decompression bomb costs time, but little memory, because only a few chunks are held.
 * @throws DATA_UNREADABLE if the file cannot be read, or the archive is damaged or truncated
 */
export async function* readBytes(
  file: string,
  { signal, onBytes }: ByteOptions,
): AsyncGenerator<Buffer, void, undefined> {
  try {
    const head = await firstBytes(file, ZSTD.length);
    const stream = createReadStream(file, { highWaterMark: CHUNK_BYTES, signal });
    const raw = onBytes ? counted(stream, onBytes) : stream;
    // `pipeline` is used because it closes all streams. Its callback is empty, because the loop over the stream
    // receives every error.
    if (starts(head, GZIP)) yield* pipeline(raw, zlib.createGunzip({ chunkSize: CHUNK_BYTES }), () => {});
    else if (starts(head, ZSTD) || starts(head.subarray(1), ZSTD_SKIPPABLE)) {
      yield* pipeline(raw, cutFrames, zlib.createZstdDecompress({ chunkSize: CHUNK_BYTES }), () => {});
    } else yield* raw;
  } catch (error) {
    signal?.throwIfAborted();
    if (isSwarmError(error)) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    throw dataError(
      'DATA_UNREADABLE',
      `${file} cannot be read: ${reason}`,
      { file },
      { cause: error, ...fromSystem(error) },
    );
  }
}

async function* counted(
  chunks: AsyncIterable<Buffer>,
  onBytes: (count: number) => void,
): AsyncGenerator<Buffer, void, undefined> {
  for await (const chunk of chunks) {
    onBytes(chunk.length);
    yield chunk;
  }
}

/**
 * Reads a UTF-8 file in chunks. Decompresses it as `readBytes` does, and removes a byte-order mark.
 * @throws DATA_ENCODING if the file is UTF-16 or binary
 */
export async function* readUtf8Bytes(
  file: string,
  options: ByteOptions,
): AsyncGenerator<Buffer, void, undefined> {
  let first = true;
  for await (const chunk of readBytes(file, options)) {
    yield first ? afterMark(chunk, file) : chunk;
    first = false;
  }
}

/** Reads a text file in pieces. A piece can end between any two characters. @throws DATA_ENCODING, DATA_UNREADABLE */
export async function* readText(file: string, options: ByteOptions): AsyncGenerator<string, void, undefined> {
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  const decode = (chunk?: Buffer): string => {
    try {
      return chunk ? decoder.decode(chunk, { stream: true }) : decoder.decode();
    } catch (cause) {
      throw notUtf8Error(file, cause);
    }
  };
  for await (const chunk of readUtf8Bytes(file, options)) yield decode(chunk);
  yield decode();
}

function afterMark(chunk: Buffer, file: string): Buffer {
  if (starts(chunk, [0xef, 0xbb, 0xbf])) return chunk.subarray(3);
  // In UTF-16 every ASCII or Latin-1 character has a zero byte. A zero byte at the start of a file therefore reveals
  // UTF-16 without a byte-order mark.
  if (starts(chunk, [0xff, 0xfe]) || starts(chunk, [0xfe, 0xff]) || chunk.subarray(0, 4).includes(0)) {
    throw encodingError(file, 'it looks like UTF-16 or binary data', 'UTF-16');
  }
  return chunk;
}

export function notUtf8Error(file: string, cause?: unknown): SwarmError {
  return encodingError(file, 'it is not UTF-8', 'WINDOWS-1252', cause);
}

/** @param encoding the encoding that the file probably has */
function encodingError(file: string, reason: string, encoding: string, cause?: unknown): SwarmError {
  const next = `save it as UTF-8, for example with iconv -f ${encoding} -t UTF-8`;
  return dataError('DATA_ENCODING', `${file}: ${reason}`, { file, reason }, { cause, next });
}

async function firstBytes(file: string, count: number): Promise<Buffer> {
  const handle = await open(file);
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(count), 0, count, 0);
    return buffer.subarray(0, bytesRead);
  } finally {
    await handle.close();
  }
}

function starts(bytes: Uint8Array, mark: readonly number[]): boolean {
  return mark.every((byte, i) => bytes[i] === byte);
}
