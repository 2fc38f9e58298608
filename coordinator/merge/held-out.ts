import { decode } from '@ipld/dag-cbor';
import type { Row } from '../../lora/data/row.ts';
import { decodeRows } from '../../lora/data/shards/shard-codec.ts';

/** Rows of a job's packed held-out data, as `packJobData` wrote it. */
export function decodeHeldOut(bytes: Uint8Array): Row[] {
  return decode<Uint8Array[]>(bytes).flatMap((shard) => decodeRows(shard));
}

/**
 * The rows that the gate looks at: evenly spaced over all, so that every document has its say, and always the same.
 * @param count 0 means all
 */
export function gateRows<T>(rows: readonly T[], count: number): T[] {
  if (count === 0 || count >= rows.length) return [...rows];
  return Array.from({ length: count }, (_, i) => rows[Math.floor((i * rows.length) / count)]!);
}
