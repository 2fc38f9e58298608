/** A stream of rows as shards. */
import { encodePacked, SHARD_BYTES } from './packed.ts';
import { predictedTokens, type Row } from './packing.ts';

export interface Shard {
  bytes: Uint8Array;
  rows: number;
  /** Predicted tokens. */
  tokens: number;
}

/**
 * Shards of at most `SHARD_BYTES` (or of one row), each as soon as it is full; all but the last hold the same number
 * of rows.
 */
export async function* shardsOf(
  rows: AsyncIterable<Row>,
  { sequenceLength, vocabSize }: { sequenceLength: number; vocabSize: number },
): AsyncGenerator<Shard, void, undefined> {
  // Ids and labels take 2 bytes each with vocabularies below 65,535, else 4; segments take 2. The header needs little.
  const rowBytes = sequenceLength * (vocabSize < 0xffff ? 6 : 10);
  const perShard = Math.max(1, Math.floor((SHARD_BYTES - 256) / rowBytes));
  let waiting: Row[] = [];
  const shard = (): Shard[] => {
    const tokens = waiting.reduce((sum, row) => sum + predictedTokens(row), 0);
    const shards = encodePacked(waiting).map((bytes) => ({ bytes, rows: waiting.length, tokens }));
    waiting = [];
    return shards;
  };
  for await (const row of rows) if (waiting.push(row) === perShard) yield* shard();
  yield* shard();
}
