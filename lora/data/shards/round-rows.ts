/** Reads the rows at given positions of a round from a job's data shards. Nodes and coordinator get the same rows. */
import type { Manifest } from '../../../protocol/job/manifest.ts';
import { dataError } from '../errors.ts';
import { type PermutationKey, permutation, permutationKey } from '../permutation.ts';
import type { Row } from '../row.ts';
import { decodeRows } from './shard-codec.ts';

/** The data set of a job, as its manifest describes it. */
type Data = Manifest['data'];
export type ShardRef = Data['shards'][number];

/** Place of a row: number of its data shard, and number of the row in that shard. */
export interface RowPlace {
  readonly shard: number;
  readonly row: number;
}

/**
 * Returns the places of the rows at the given positions of a round. Position p of the round is row π(p mod rows). The
 * permutation π is keyed by job, round, parent and ⌊p / rows⌋.
 * @throws SwarmError DATA_MISMATCH if the shards of the manifest have fewer rows than the manifest says
 */
export function placesInRound(
  data: Data,
  key: Omit<PermutationKey, 'epoch'>,
  positions: readonly number[],
): RowPlace[] {
  const permutations = new Map<number, (position: number) => number>();
  return positions.map((position) => {
    const epoch = Math.floor(position / data.rows);
    let permute = permutations.get(epoch);
    if (!permute) {
      permute = permutation(data.rows, permutationKey({ ...key, epoch }));
      permutations.set(epoch, permute);
    }
    return placeOf(data.shards, permute(position % data.rows));
  });
}

/**
 * Reads the rows at the given places, in the order of `places`.
 * @param read returns the bytes of a shard
 * @throws SwarmError DATA_MISMATCH if a shard differs from what the manifest says, PACKED_INVALID; errors of `read`
 */
export async function readRows(
  data: Data,
  places: readonly RowPlace[],
  { read, signal }: { read: (shard: ShardRef) => Promise<Uint8Array>; signal: AbortSignal },
): Promise<Row[]> {
  const rows: Row[] = Array(places.length);
  // A round has a few rows from each of many shards. To save memory, only one decoded shard is held at a time.
  for (const shard of shardsOf(places)) {
    const decoded = await decodeShard(data, shard, read);
    for (const [i, place] of places.entries()) if (place.shard === shard) rows[i] = decoded[place.row]!;
    signal.throwIfAborted();
  }
  return rows;
}

/** Returns the numbers of the shards that have the rows at `places`, in ascending order. */
export function shardsOf(places: readonly RowPlace[]): number[] {
  return [...new Set(places.map(({ shard }) => shard))].sort((a, b) => a - b);
}

function placeOf(shards: Data['shards'], index: number): RowPlace {
  let first = 0;
  for (const [shard, { rows }] of shards.entries()) {
    if (index < first + rows) return { shard, row: index - first };
    first += rows;
  }
  throw dataError('DATA_MISMATCH', `row ${index} does not exist: the manifest's shards have ${first} rows`, {
    index,
    rows: first,
  });
}

async function decodeShard(
  { shards, sequenceLength }: Data,
  shard: number,
  read: (shard: ShardRef) => Promise<Uint8Array>,
): Promise<readonly Row[]> {
  const ref = shards[shard]!;
  const { digest, rows } = ref;
  const decoded = decodeRows(await read(ref));
  if (decoded.length !== rows || decoded.some(({ ids }) => ids.length !== sequenceLength)) {
    throw dataError(
      'DATA_MISMATCH',
      `data shard ${digest} does not contain ${rows} rows of ${sequenceLength} tokens`,
      { digest, rows, found: decoded.length },
    );
  }
  return decoded;
}
