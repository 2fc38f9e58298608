import { fromSystem } from '../../../common/errors.ts';
/** A file's content as a stream of bytes or text, decompressed on the way: never more than a few chunks in memory. */

import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { pipeline } from 'node:stream';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { isSwarmError, type SwarmError } from '../../../common/errors.ts';
import { dataError } from '../errors.ts';
import { cutFrames } from './zstd-frames.ts';

/** Bytes per read and per decompressed chunk: large enough that the calls do not count. */
const CHUNK_BYTES = 256 * 1024;

const GZIP = [0x1f, 0x8b];
const ZSTD = [0x28, 0xb5, 0x2f, 0xfd];
/** From the second byte: the first one has sixteen values. */
const ZSTD_SKIPPABLE = [0x2a, 0x4d, 0x18];

export interface ByteOptions {
  signal?: AbortSignal;
  /** Bytes that were read from the file, before they are unpacked, since the last call. */
  onBytes?: (count: number) => void;
}

/**
 * Chunks of a file. Gzip and zstd are recognised by their first bytes, whatever the file is called, and unpacked as
 * they are read: what a small file unpacks to takes time, not memory.
 * @throws DATA_UNREADABLE (also for a damaged or cut-off archive)
 */
export async function* readBytes(
  file: string,
  { signal, onBytes }: ByteOptions,
): AsyncGenerator<Buffer, void, undefined> {
  try {
    const head = await firstBytes(file, ZSTD.length);
    const stream = createReadStream(file, { highWaterMark: CHUNK_BYTES, signal });
    const raw = onBytes ? counted(stream, onBytes) : stream;
    // The iteration below sees every error; pipeline only closes all ends.
    if (starts(head, GZIP)) yield* pipeline(raw, createGunzip({ chunkSize: CHUNK_BYTES }), () => {});
    else if (starts(head, ZSTD) || starts(head.subarray(1), ZSTD_SKIPPABLE)) {
      yield* pipeline(raw, cutFrames, createZstdDecompress({ chunkSize: CHUNK_BYTES }), () => {});
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

/** As `readBytes`, without a byte-order mark. @throws DATA_ENCODING when it is UTF-16 or binary */
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

/** Text of a file in pieces that may end anywhere between two characters. @throws DATA_ENCODING, DATA_UNREADABLE */
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
  // UTF-16 text without a mark has a zero byte in its first character, unless that is far from English.
  if (starts(chunk, [0xff, 0xfe]) || starts(chunk, [0xfe, 0xff]) || chunk.subarray(0, 4).includes(0)) {
    throw encoding(file, 'it looks like UTF-16 or like no text at all', 'UTF-16');
  }
  return chunk;
}

export function notUtf8Error(file: string, cause?: unknown): SwarmError {
  return encoding(file, 'it is not UTF-8', 'WINDOWS-1252', cause);
}

/** @param likely what it may be instead */
function encoding(file: string, reason: string, likely: string, cause?: unknown): SwarmError {
  const message = `${file}: ${reason}; save it as UTF-8 (for example with iconv -f ${likely} -t UTF-8)`;
  return dataError('DATA_ENCODING', message, { file, reason }, { cause });
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
