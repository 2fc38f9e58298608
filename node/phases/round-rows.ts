import type { Row } from '../../lora/data/row.ts';
import { placesInRound, readRows, type ShardRef, shardsOf } from '../../lora/data/shards/round-rows.ts';
import { obtain } from '../blobs/obtain.ts';
import type { Work } from '../machine/work.ts';
import type { PhasePort } from './port.ts';

/**
 * Returns the rows of a node's interval in training order. If the interval has fewer than `count` rows, its rows are
 * repeated.
 * @param count number of rows to return
 * @throws the errors of `rowsAt`
 */
export function rowsOf(
  context: PhasePort,
  { round, parent, start, end }: Work,
  count: number,
  signal: AbortSignal,
): Promise<Row[]> {
  const positions = Array.from({ length: count }, (_, i) => start + (i % (end - start)));
  return rowsAt(context, { round, parent, positions }, signal);
}

/**
 * Returns the rows at positions of a round's permutation. Missing data shards are fetched first, and stay in the blob
 * store.
 * @param place `parent`: digest of the checkpoint that the round starts from. `positions`: positions in the permutation
 * @throws SwarmError BLOB_*; DATA_MISMATCH if a shard differs from what the manifest says
 */
export async function rowsAt(
  context: PhasePort,
  { round, parent, positions }: { round: number; parent: string; positions: readonly number[] },
  signal: AbortSignal,
): Promise<Row[]> {
  const { job, manifest, deps } = context;
  const { data } = manifest;
  const places = placesInRound(data, { job, round, parent }, positions);
  await fetchShards(
    context,
    shardsOf(places).map((shard) => data.shards[shard]!),
    signal,
  );
  const read = ({ digest, size }: ShardRef) => deps.blobs.get(digest, { maxBytes: size });
  return readRows(data, places, { read, signal });
}

async function fetchShards(
  context: PhasePort,
  shards: readonly ShardRef[],
  signal: AbortSignal,
): Promise<void> {
  const total = shards.reduce((sum, { size }) => sum + size, 0);
  let done = 0;
  try {
    for (const { digest, size } of shards) {
      await obtain(
        context,
        { digest, size },
        {
          signal,
          onProgress: ({ bytes }) => context.onDownload({ what: 'data', bytes: done + bytes, total }),
        },
      );
      done += size;
    }
  } finally {
    context.onDownload(null);
  }
}
