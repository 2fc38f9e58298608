import { decode } from '@ipld/dag-cbor';
import type { Row } from '../../lora/data/row.ts';
import { decodeRows } from '../../lora/data/shards/shard-codec.ts';

/** Decodes a job's held-out rows, as `packJobData` encodes them. */
export function decodeHeldOut(bytes: Uint8Array): Row[] {
  return decode<Uint8Array[]>(bytes).flatMap((shard) => decodeRows(shard));
}

/**
 * Chooses the rows that the gate evaluates. They are evenly spaced, so that every part of the data counts. Repeated
 * calls choose the same rows.
 * @param count number of rows to choose; 0 for all rows
 */
export function gateRows<T>(rows: readonly T[], count: number): T[] {
  if (count === 0 || count >= rows.length) return [...rows];
  return Array.from({ length: count }, (_, i) => rows[Math.floor((i * rows.length) / count)]!);
}
