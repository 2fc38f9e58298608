import { type FileHandle, open } from 'node:fs/promises';
import * as zlib from 'node:zlib';
import {
  type AsyncBuffer,
  type Compressors,
  type FileMetaData,
  parquetMetadataAsync,
  parquetReadObjects,
} from 'hyparquet';
import { fromSystem, isSwarmError, type SwarmError } from '../../../common/errors.ts';
import { dataError } from '../errors.ts';
import type { ContainerOptions, RawRow, RowBatches } from './raw-rows.ts';

/**
 * Maximum size of a row group, in uncompressed bytes of the columns that are read. The size is limited because a group
 * is decoded as a whole. Typical writers make groups of a few MiB.
 */
const MAX_GROUP_BYTES = 512 * 1024 * 1024;
/**
 * Maximum number of rows in a group. The number is limited because each row becomes an object in memory. pyarrow's
 * default is a million rows per group.
 */
const MAX_GROUP_ROWS = 2 * 2 ** 20;
/**
 * Maximum uncompressed size of a page, in bytes. A page is usually 1 MiB, but a single large value can make it larger.
 */
const MAX_PAGE_BYTES = 64 * 1024 * 1024;
/** Minimum size of a file: the magic numbers at both ends and the length of the footer. */
const MIN_FILE_BYTES = 12;
/** Number of rows per batch. A large row group is converted one batch at a time. */
const BATCH_ROWS = 1000;

const inflate =
  (unpack: (input: Uint8Array, options: { maxOutputLength: number }) => Buffer) =>
  (input: Uint8Array, length: number): Uint8Array =>
    unpack(input, { maxOutputLength: Math.max(1, Math.min(length, MAX_PAGE_BYTES)) });

const COMPRESSORS: Compressors = {
  GZIP: inflate(zlib.gunzipSync),
  BROTLI: inflate(zlib.brotliDecompressSync),
  ZSTD: inflate(zlib.zstdDecompressSync),
};

/**
 * Reads Apache Parquet, one row group at a time. 64-bit integers become numbers, or strings beyond 2^53. Times become
 * ISO strings. `row` counts from 1.
 * @param wanted columns to read; all other columns get the value undefined. null to read all columns
 * @throws DATA_PARQUET (values: file, reason), DATA_UNREADABLE
 */
export async function* readParquet(
  file: string,
  { signal, wanted, onBytes }: ContainerOptions & { wanted: ReadonlySet<string> | null },
): RowBatches {
  const handle = await open(file).catch((cause: unknown) => {
    throw dataError('DATA_UNREADABLE', `${file} cannot be read`, { file }, { cause, ...fromSystem(cause) });
  });
  try {
    const buffer = await fileBuffer(handle, onBytes);
    const metadata = await parquetMetadataAsync(buffer);
    const names = columnNames(metadata);
    const columns = names.filter((name) => wanted === null || wanted.has(name));
    const blank = Object.fromEntries(names.map((name) => [name, undefined]));
    let row = 0;
    let groupStart = 0;
    for (const [index, group] of metadata.row_groups.entries()) {
      const rows = Number(group.num_rows);
      const bytes = groupBytes(group, columns);
      if (bytes > MAX_GROUP_BYTES || rows > MAX_GROUP_ROWS) {
        throw invalid(
          file,
          `row group ${index} has ${rows} rows and ${bytes} bytes (limits: ${MAX_GROUP_ROWS} rows, ${MAX_GROUP_BYTES} bytes)`,
          { next: 'write smaller row groups (pyarrow: row_group_size=10000)' },
        );
      }
      // If the file has none of the wanted columns, one row is yielded whose values are all undefined. The caller then
      // throws an error that lists the columns of this row.
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
    const next = reason.includes('compression codec') ? "write it with compression='zstd'" : undefined;
    throw invalid(file, reason, { cause: error, next });
  } finally {
    await handle.close();
  }
}

async function fileBuffer(
  handle: FileHandle,
  onBytes: (count: number) => void = () => {},
): Promise<AsyncBuffer> {
  const { size } = await handle.stat();
  if (size < MIN_FILE_BYTES) throw new Error(`${size} bytes are too few for a Parquet file`);
  return {
    byteLength: size,
    async slice(start, end = size) {
      const from = start < 0 ? size + start : start;
      if (from < 0 || end > size || from > end)
        throw new Error(`it refers to bytes ${from} to ${end}, but has only ${size} bytes`);
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

/** Returns the top-level columns in the order of the schema, whose first element is the root. */
function columnNames({ schema }: FileMetaData): string[] {
  const names: string[] = [];
  // The elements are in depth-first order, so each step skips the descendants of a column.
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

/** Converts a value to one that JSON can hold, because templates do not support 64-bit integers and dates. */
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

function invalid(file: string, reason: string, options: { cause?: unknown; next?: string } = {}): SwarmError {
  const next = options.next ?? 'write the file again; it is damaged, or not a Parquet file';
  return dataError('DATA_PARQUET', `${file}: ${reason}`, { file, reason }, { ...options, next });
}
