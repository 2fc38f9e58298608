/**
 * Packed rows on disk: written once, then read row by row in any order. The folder contains the file `rows`, which is a
 * sequence of shards, and `index.json`. The index is written last, so a folder without it is incomplete and ignored.
 */

import { closeSync, openSync, readSync } from 'node:fs';
import { type FileHandle, mkdir, open, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { RowSummary, RowTally } from '../../protocol/api/job-creation.ts';
import { dataError } from './errors.ts';
import { newTally } from './packing/tally.ts';
import type { Row } from './row.ts';
import type { Shard } from './shards/cut-shards.ts';
import { decodeRow, type ShardLayout, shardLayout } from './shards/shard-codec.ts';

const ROWS_FILE = 'rows';
const INDEX_FILE = 'index.json';

const count = z.int().nonnegative();
const origin = z.object({ file: z.string(), row: count });
const bad = z.object({ origin, code: z.string(), reason: z.string() });
const indexSchema = z.strictObject({
  version: z.literal(1),
  /** Digest of everything that determines the rows. */
  key: z.string(),
  rows: count,
  tokens: count,
  sequenceLength: count,
  /** Number of rows in every shard except the last. */
  perShard: count,
  shards: z.array(z.strictObject({ at: count, rows: count, width: z.union([z.literal(2), z.literal(4)]) })),
  read: z.object({
    rows: count,
    bad: count,
    reasons: z.array(z.object({ code: z.string(), count, rows: z.array(bad) })),
  }),
  tally: z
    .object({ untrainedRows: z.array(z.object({ origin, reason: z.string() })) })
    .catchall(z.number())
    .transform((tally): RowTally => ({ ...newTally(), ...tally })),
});
type Index = z.output<typeof indexSchema>;

/**
 * Rows of T tokens on disk. Reading is synchronous, because a row has only a few kilobytes and is usually in the page
 * cache. Close the object after use.
 */
export class StoredRows {
  readonly #index: Index;
  readonly #path: string;
  readonly #file: number;

  private constructor(index: Index, path: string, file: number) {
    this.#index = index;
    this.#path = path;
    this.#file = file;
  }

  /** Opens a folder. Returns null if it holds no complete set of rows. */
  static async open(dir: string): Promise<StoredRows | null> {
    const text = await readFile(join(dir, INDEX_FILE), 'utf8').catch(() => null);
    if (text === null) return null;
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch {
      return null;
    }
    const parsed = indexSchema.safeParse(value);
    if (!parsed.success) return null;
    const path = join(dir, ROWS_FILE);
    try {
      return new StoredRows(parsed.data, path, openSync(path, 'r'));
    } catch {
      return null;
    }
  }

  /**
   * Writes the rows to a new folder.
   * @param about returns further fields of the index; called after the last shard
   * @returns false if there were no rows; then no index is written
   */
  static async write(
    dir: string,
    shards: AsyncIterable<Shard>,
    about: () => { key: string; read: RowSummary; tally: RowTally },
  ): Promise<boolean> {
    await mkdir(dir, { recursive: true });
    const file = await open(join(dir, ROWS_FILE), 'wx');
    const index = {
      version: 1,
      rows: 0,
      tokens: 0,
      sequenceLength: 0,
      perShard: 0,
      shards: [] as Index['shards'],
    };
    try {
      let end = 0;
      for await (const { bytes, rows, tokens } of shards) {
        const { start, width, sequenceLength } = shardLayout(bytes);
        await writeAll(file, bytes);
        index.shards.push({ at: end + start, rows, width });
        index.sequenceLength = sequenceLength;
        index.perShard = Math.max(index.perShard, rows);
        index.rows += rows;
        index.tokens += tokens;
        end += bytes.length;
      }
      await file.sync();
    } finally {
      await file.close();
    }
    if (index.rows > 0) await writeFile(join(dir, INDEX_FILE), JSON.stringify({ ...index, ...about() }));
    return index.rows > 0;
  }

  get rows(): number {
    return this.#index.rows;
  }

  /** Number of supervised tokens in all rows. */
  get tokens(): number {
    return this.#index.tokens;
  }

  /** Digest of the data, tokenizer, template and settings that these rows were made from. */
  get key(): string {
    return this.#index.key;
  }

  /** Number of records read from the data files, and number of records that could not be used. */
  get read(): RowSummary {
    return this.#index.read;
  }

  get tally(): RowTally {
    return this.#index.tally;
  }

  /** Reads one row. @throws ROWS_POSITION; PACKED_INVALID if the file was changed */
  row(index: number): Row {
    const { perShard, shards, sequenceLength } = this.#index;
    const shard = shards[Math.floor(index / perShard)];
    const within = index % perShard;
    if (!Number.isInteger(index) || index < 0 || shard === undefined || within >= shard.rows) {
      throw dataError('ROWS_POSITION', `there is no position ${index} among ${this.rows} rows`, {
        position: index,
        rows: this.rows,
      });
    }
    const layout: Omit<ShardLayout, 'start'> = { rows: shard.rows, width: shard.width, sequenceLength };
    return decodeRow(layout, within, (offset, length) => this.#bytes(shard.at + offset, length));
  }

  rowsAt(indices: readonly number[]): Row[] {
    return indices.map((index) => this.row(index));
  }

  close(): void {
    closeSync(this.#file);
  }

  #bytes(at: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    const read = readSync(this.#file, bytes, 0, length, at);
    if (read === length) return bytes;
    throw dataError(
      'PACKED_INVALID',
      `the file ${this.#path} of packed rows is cut off: it ends at byte ${at + read}`,
      { file: this.#path, reason: 'cut off' },
      { next: 'delete that file; the data is then packed again' },
    );
  }
}

async function writeAll(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length; ) at += (await file.write(bytes, at)).bytesWritten;
}
