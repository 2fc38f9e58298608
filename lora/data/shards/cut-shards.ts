import { predictedTokens, type Row } from '../row.ts';
import { encodeShards, MAX_HEADER_BYTES, SHARD_BYTES } from './shard-codec.ts';

/** The two numbers that determine the maximum size of a packed row in bytes. */
export interface RowSize {
  readonly sequenceLength: number;
  readonly vocabSize: number;
}

/** An encoded data shard. */
export interface Shard {
  bytes: Uint8Array;
  rows: number;
  /** Number of supervised tokens in the rows. */
  tokens: number;
}

/** Returns the largest possible size of a packed row in bytes. */
export function packedRowBytes({ sequenceLength, vocabSize }: RowSize): number {
  // Each id and label takes 2 bytes for vocabularies below 65,535, and 4 bytes for larger ones. Each segment
  // number takes 2 bytes.
  return sequenceLength * (vocabSize < 0xffff ? 6 : 10);
}

/** Returns the number of rows in every shard except the last. */
export function rowsPerShard(size: RowSize): number {
  return Math.max(1, Math.floor((SHARD_BYTES - MAX_HEADER_BYTES) / packedRowBytes(size)));
}

/**
 * Encodes a stream of rows as shards of at most `SHARD_BYTES`. A row larger than that becomes a separate shard. Yields
 * each shard as soon as it is full. All shards except the last have the same number of rows.
 */
export async function* cutShards(
  rows: AsyncIterable<Row>,
  size: RowSize,
): AsyncGenerator<Shard, void, undefined> {
  const perShard = rowsPerShard(size);
  let waiting: Row[] = [];
  const shard = (): Shard[] => {
    const tokens = waiting.reduce((sum, row) => sum + predictedTokens(row), 0);
    const shards = encodeShards(waiting).map((bytes) => ({ bytes, rows: waiting.length, tokens }));
    waiting = [];
    return shards;
  };
  for await (const row of rows) if (waiting.push(row) === perShard) yield* shard();
  yield* shard();
}
