/** A stream of rows as shards. */

import { predictedTokens, type Row } from '../row.ts';
import { encodeShards, MAX_HEADER_BYTES, SHARD_BYTES } from './shard-codec.ts';

export interface RowSize {
  readonly sequenceLength: number;
  readonly vocabSize: number;
}

export interface Shard {
  bytes: Uint8Array;
  rows: number;
  /** Predicted tokens. */
  tokens: number;
}

/** Bytes of a packed row, at most. */
export function packedRowBytes({ sequenceLength, vocabSize }: RowSize): number {
  // Ids and labels take 2 bytes each with vocabularies below 65,535, else 4; segments take 2.
  return sequenceLength * (vocabSize < 0xffff ? 6 : 10);
}

/** Rows of every shard but the last. */
export function rowsPerShard(size: RowSize): number {
  return Math.max(1, Math.floor((SHARD_BYTES - MAX_HEADER_BYTES) / packedRowBytes(size)));
}

/**
 * Shards of at most `SHARD_BYTES` (or of one row), each as soon as it is full; all but the last hold the same number
 * of rows.
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
