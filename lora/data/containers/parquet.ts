import { fromSystem } from '../../../common/errors.ts';
/** Apache Parquet, one row group at a time, only the columns that are asked for. */

import { type FileHandle, open } from 'node:fs/promises';
import { brotliDecompressSync, gunzipSync, zstdDecompressSync } from 'node:zlib';
import {
  type AsyncBuffer,
  type Compressors,
  type FileMetaData,
  parquetMetadataAsync,
  parquetReadObjects,
} from 'hyparquet';
import { isSwarmError, type SwarmError } from '../../../common/errors.ts';
import { dataError } from '../errors.ts';
import type { ContainerOptions, RawRow, RowBatches } from './raw-rows.ts';

/** A row group is decoded whole; uncompressed bytes of the columns that are read. Writers make them of some MiB. */
const MAX_GROUP_BYTES = 512 * 1024 * 1024;
/** Rows of one group: pyarrow writes a million unless told otherwise, and each becomes an object. */
const MAX_GROUP_ROWS = 2 * 2 ** 20;
/** Bytes of one page: writers make them of 1 MiB, and a page is at least one value. */
const MAX_PAGE_BYTES = 64 * 1024 * 1024;
/** Marks at both ends and the length of the footer. */
const MIN_FILE_BYTES = 12;
/** Rows per batch: the objects of a large group are made a few at a time. */
const BATCH_ROWS = 1000;

const inflate =
  (unpack: (input: Uint8Array, options: { maxOutputLength: number }) => Buffer) =>
  (input: Uint8Array, length: number): Uint8Array =>
    unpack(input, { maxOutputLength: Math.max(1, Math.min(length, MAX_PAGE_BYTES)) });

const COMPRESSORS: Compressors = {
  GZIP: inflate(gunzipSync),
  BROTLI: inflate(brotliDecompressSync),
  ZSTD: inflate(zstdDecompressSync),
};

/**
 * Rows as objects: 64-bit integers as numbers (as text beyond 2^53), times as ISO text. A column that is not `wanted`
 * is there, with the value undefined. `row` counts from 1.
 * @throws DATA_PARQUET (values: file, reason), DATA_UNREADABLE
 */
export async function* readParquet(
  file: string,
  { signal, wanted, onBytes }: ContainerOptions & { wanted: ReadonlySet<string> },
): RowBatches {
  const handle = await open(file).catch((cause: unknown) => {
    throw dataError('DATA_UNREADABLE', `${file} cannot be read`, { file }, { cause, ...fromSystem(cause) });
  });
  try {
    const buffer = await fileBuffer(handle, onBytes);
    const metadata = await parquetMetadataAsync(buffer);
    const names = columnNames(metadata);
    const columns = names.filter((name) => wanted.has(name));
    const blank = Object.fromEntries(names.map((name) => [name, undefined]));
    let row = 0;
    let groupStart = 0;
    for (const [index, group] of metadata.row_groups.entries()) {
      const rows = Number(group.num_rows);
      const bytes = groupBytes(group, columns);
      if (bytes > MAX_GROUP_BYTES || rows > MAX_GROUP_ROWS) {
        throw invalid(
          file,
          `row group ${index} holds ${rows} rows of ${bytes} bytes, at most ${MAX_GROUP_ROWS} of ${MAX_GROUP_BYTES} ` +
            'are read at once; write smaller row groups (pyarrow: row_group_size=10000)',
        );
      }
      // Without a column of interest only the names are told, so that somebody can say which are known.
      const values: Record<string, unknown>[] =
        columns.length === 0
          ? [{}]
          : await parquetReadObjects({
              file: buffer,
              metadata,
              columns,
              rowStart: groupStart,
              rowEnd: groupStart + rows,
              compressors: COMPRESSORS,
            });
      groupStart += rows;
      for (let start = 0; start < values.length; start += BATCH_ROWS) {
        signal?.throwIfAborted();
        yield values
          .slice(start, start + BATCH_ROWS)
          .map((value): RawRow => ({ row: ++row, value: { ...blank, ...plain(value) } }));
      }
    }
  } catch (error) {
    if (isSwarmError(error) || signal?.aborted) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    const advice = reason.includes('compression codec') ? "; write it with compression='zstd'" : '';
    throw invalid(file, `${reason}${advice}`, error);
  } finally {
    await handle.close();
  }
}

async function fileBuffer(
  handle: FileHandle,
  onBytes: (count: number) => void = () => {},
): Promise<AsyncBuffer> {
  const { size } = await handle.stat();
  if (size < MIN_FILE_BYTES) throw new Error(`it has ${size} bytes, too few for a Parquet file`);
  return {
    byteLength: size,
    async slice(start, end = size) {
      const from = start < 0 ? size + start : start;
      if (from < 0 || end > size || from > end)
        throw new Error(`it claims the bytes ${from} to ${end} of ${size}`);
      const bytes = new Uint8Array(end - from);
      let filled = 0;
      while (filled < bytes.length) {
        const { bytesRead } = await handle.read(bytes, filled, bytes.length - filled, from + filled);
        if (bytesRead === 0) throw new Error('it became shorter while it was read');
        filled += bytesRead;
      }
      onBytes(bytes.length);
      return bytes.buffer;
    },
  };
}

/** Top-level columns, in the order of the schema, whose first element is the root. */
function columnNames({ schema }: FileMetaData): string[] {
  const names: string[] = [];
  // Elements are in depth-first order: a column's descendants are skipped.
  for (let i = 1; i < schema.length; i = next(schema, i)) names.push(schema[i]!.name);
  return names;
}

function next(schema: FileMetaData['schema'], index: number): number {
  let at = index + 1;
  for (let left = schema[index]!.num_children ?? 0; left > 0 && at < schema.length; left--)
    at = next(schema, at);
  return at;
}

function groupBytes(group: FileMetaData['row_groups'][number], columns: readonly string[]): number {
  return group.columns.reduce((sum, { meta_data: column }) => {
    if (!column || !columns.includes(column.path_in_schema[0] ?? '')) return sum;
    return sum + Number(column.total_uncompressed_size);
  }, 0);
}

/** As JSON would hold it: templates and counters know no 64-bit integers and no dates. */
function plain<T>(value: T): T {
  return plainValue(value) as T;
}

function plainValue(value: unknown): unknown {
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : String(value);
  if (value instanceof Date) return value.toISOString();
  if (ArrayBuffer.isView(value)) return Array.from(value as unknown as ArrayLike<unknown>, plainValue);
  if (Array.isArray(value)) return value.map(plainValue);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, plainValue(inner)]));
}

function invalid(file: string, reason: string, cause?: unknown): SwarmError {
  return dataError('DATA_PARQUET', `${file}: ${reason}`, { file, reason }, { cause });
}
