/**
 * Encodes rows as data shards and decodes them. Shards are addressed by their digest and fetched from untrusted peers.
 *
 * Format of a shard, little-endian:
 * - u32: length of the header
 * - header, canonical CBOR: `{format, version, rows, sequenceLength, width}`
 * - ids of all rows, unsigned, `width` bytes each
 * - labels of all rows, unsigned, `width` bytes each; all bits are set where nothing is predicted
 * - segments of all rows, u16
 *
 * Equal lists of rows give equal bytes.
 */

import { z } from 'zod';
import { isSwarmError, type SwarmError } from '../../../common/errors.ts';
import { decodeCbor, encodeCbor } from '../../../protocol/cbor.ts';
import { DATA_SHARD_BYTES } from '../../../protocol/limits.ts';
import { dataError } from '../errors.ts';
import { IGNORED_LABEL, type Row } from '../row.ts';

/**
 * Maximum size of a shard in bytes, so that one request of the blob protocol transfers a whole shard. A larger row becomes
 * a separate shard.
 */
export const SHARD_BYTES = 1024 * 1024;
export const MAX_HEADER_BYTES = 256;
/** Token ids are below this number, because readers of config.json allow no larger vocabulary. */
const MAX_VOCABULARY = 2 ** 21;

const FORMAT = 'lora-swarm/rows';
const headerSchema = z.strictObject({
  format: z.literal(FORMAT),
  version: z.literal(1),
  rows: z.int().positive().max(DATA_SHARD_BYTES),
  sequenceLength: z.int().min(2).max(DATA_SHARD_BYTES),
  /** Number of bytes of each id and of each label. */
  width: z.union([z.literal(2), z.literal(4)]),
});
type Header = z.output<typeof headerSchema>;

/**
 * Encodes rows of equal length as shards of at most `SHARD_BYTES`, in the order of the rows. Every shard except the last
 * has the same number of rows.
 * @throws PACKED_ROW if a row is not canonical, or the rows have different lengths
 */
export function encodeShards(rows: readonly Row[]): Uint8Array[] {
  const first = rows[0];
  if (first === undefined) return [];
  const sequenceLength = first.ids.length;
  for (const [i, row] of rows.entries()) checkRow(row, sequenceLength, i);
  // 16 bits are enough for ids below 65,535. The value 65,535 itself marks a label where nothing is predicted.
  const wide = rows.some(
    (row) => row.ids.some((id) => id >= 0xffff) || row.labels.some((label) => label >= 0xffff),
  );
  const width = wide ? 4 : 2;
  const perShard = Math.max(
    1,
    Math.floor((SHARD_BYTES - MAX_HEADER_BYTES) / rowBytes({ sequenceLength, width })),
  );
  const shards: Uint8Array[] = [];
  for (let start = 0; start < rows.length; start += perShard) {
    shards.push(encodeShard(rows.slice(start, start + perShard), sequenceLength, width));
  }
  return shards;
}

/**
 * Decodes the rows of a shard. Memory is proportional to the number of bytes, whatever the header claims.
 * @throws PACKED_INVALID (values: reason)
 */
export function decodeRows(bytes: Uint8Array): Row[] {
  const { header, body } = split(bytes);
  const read = (offset: number, length: number): Uint8Array => body.subarray(offset, offset + length);
  return Array.from({ length: header.rows }, (_, i) => decodeRow(header, i, read));
}

/** Number, size, element width and offset of the rows in a shard, read from the shard's header. */
export interface ShardLayout {
  readonly rows: number;
  readonly sequenceLength: number;
  /** Number of bytes of an id or a label. */
  readonly width: 2 | 4;
  /** Position of the first row in the shard, in bytes. */
  readonly start: number;
}

/** Reads the header of a shard. @throws PACKED_INVALID */
export function shardLayout(bytes: Uint8Array): ShardLayout {
  const { header, body } = split(bytes);
  const { rows, sequenceLength, width } = header;
  return { rows, sequenceLength, width, start: bytes.length - body.length };
}

/**
 * Decodes one row of a shard without loading the whole shard.
 * @param read returns bytes at an offset from the shard's `start`
 * @throws PACKED_INVALID
 */
export function decodeRow(
  { rows, sequenceLength, width }: Omit<ShardLayout, 'start'>,
  index: number,
  read: (offset: number, length: number) => Uint8Array,
): Row {
  const words = (block: number, size: 2 | 4) => {
    // The constructor copies the bytes. A slice of a Buffer would be a view into a shared pool, which may be unaligned.
    const bytes = read(
      block * rows * sequenceLength * width + index * sequenceLength * size,
      sequenceLength * size,
    );
    const { buffer } = new Uint8Array(bytes);
    return size === 2 ? new Uint16Array(buffer) : new Uint32Array(buffer);
  };
  const ignored = width === 2 ? 0xffff : 0xffffffff;
  const row: Row = {
    ids: Uint32Array.from(words(0, width)),
    labels: Int32Array.from(words(1, width), (label) => (label === ignored ? IGNORED_LABEL : label)),
    segments: Uint16Array.from(words(2, 2)),
  };
  try {
    checkRow(row, sequenceLength, index);
  } catch (error) {
    throw isSwarmError(error) ? invalid(error.message, error) : error;
  }
  return row;
}

function rowBytes({ sequenceLength, width }: Pick<Header, 'sequenceLength' | 'width'>): number {
  return sequenceLength * (2 * width + 2);
}

function encodeShard(rows: readonly Row[], sequenceLength: number, width: 2 | 4): Uint8Array {
  const header = encodeCbor({ format: FORMAT, version: 1, rows: rows.length, sequenceLength, width });
  const bytes = new Uint8Array(4 + header.length + rows.length * rowBytes({ sequenceLength, width }));
  const view = new DataView(bytes.buffer);
  view.setUint32(0, header.length, true);
  bytes.set(header, 4);
  let offset = 4 + header.length;
  const put = (value: number, size: number) => {
    if (size === 2) view.setUint16(offset, value, true);
    else view.setUint32(offset, value, true);
    offset += size;
  };
  for (const { ids } of rows) for (const id of ids) put(id, width);
  // An ignored label is written as −1, which has all bits set as an unsigned number.
  for (const { labels } of rows) {
    for (const label of labels) put(label === IGNORED_LABEL ? -1 : label, width);
  }
  for (const { segments } of rows) for (const segment of segments) put(segment, 2);
  return bytes;
}

function split(bytes: Uint8Array): { header: Header; body: Uint8Array } {
  if (bytes.length > DATA_SHARD_BYTES)
    throw invalid(`${bytes.length} bytes exceed the limit of ${DATA_SHARD_BYTES}`);
  if (bytes.length < 4) throw invalid('it ends before the header');
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  if (length > MAX_HEADER_BYTES || 4 + length > bytes.length)
    throw invalid(`the header claims to have ${length} bytes`);
  const start = bytes.subarray(4, 4 + length);
  let header: Header;
  try {
    header = decodeCbor(start, headerSchema, MAX_HEADER_BYTES);
  } catch (error) {
    throw invalid('the header is malformed', error);
  }
  const body = bytes.subarray(4 + length);
  const expected = header.rows * rowBytes(header);
  if (body.length !== expected)
    throw invalid(`it has ${body.length} bytes of rows, but the header claims ${expected}`);
  return { header, body };
}

/**
 * Checks that a row is canonical: segments count up from 1 without gaps, and padding (segment 0) comes last, with id 0
 * and no label.
 */
function checkRow({ ids, segments, labels }: Row, length: number, index: number): void {
  const refuse = (reason: string) =>
    dataError('PACKED_ROW', `row ${index}: ${reason}`, { row: index, reason });
  if (ids.length !== length || segments.length !== length || labels.length !== length) {
    throw refuse(`ids, segments and labels do not all have ${length} entries`);
  }
  let previous = 0;
  for (let t = 0; t < length; t++) {
    const segment = segments[t]!;
    const label = labels[t]!;
    const starts = segment === previous + 1 && (previous > 0 || t === 0);
    const ends = segment === 0;
    if (segment !== previous && !starts && !ends)
      throw refuse(`segment ${segment} follows segment ${previous} at position ${t}`);
    if (ids[t]! >= MAX_VOCABULARY || label >= MAX_VOCABULARY || (label < 0 && label !== IGNORED_LABEL)) {
      throw refuse(`id ${ids[t]} or label ${label} at position ${t} is not a token`);
    }
    if (ends && (ids[t] !== 0 || label !== IGNORED_LABEL))
      throw refuse(`the padding at position ${t} has an id or a label`);
    previous = segment;
  }
}

function invalid(reason: string, cause?: unknown): SwarmError {
  return dataError('PACKED_INVALID', `the data shard is unusable: ${reason}`, { reason }, { cause });
}
