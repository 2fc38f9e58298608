import { permutation, permutationKey } from '../../lora/data/permutation.ts';
import type { Row } from '../../lora/data/row.ts';
import { decodeRows } from '../../lora/data/shards/shard-codec.ts';
import { holdersOf, type PhaseContext } from '../context.ts';
import { nodeError } from '../errors.ts';
import type { Work } from '../machine/work.ts';

/**
 * Returns the rows of a node's interval in training order. Position p of the round is row π(p mod rows). The
 * permutation π is keyed by job, round, parent and ⌊p / rows⌋. An interval that is shorter than `count` is repeated.
 * Missing data shards are fetched first, and stay in the blob store.
 * @param count number of rows to return
 * @throws SwarmError BLOB_*; DATA_MISMATCH if a shard differs from what the manifest says
 */
export async function rowsOf(
  context: PhaseContext,
  work: Work,
  count: number,
  signal: AbortSignal,
): Promise<Row[]> {
  const { data } = context.manifest;
  const positions = Array.from({ length: count }, (_, i) => work.start + (i % (work.end - work.start)));
  const permutations = new Map<number, (position: number) => number>();
  const indices = positions.map((position) => {
    const epoch = Math.floor(position / data.rows);
    let permute = permutations.get(epoch);
    if (!permute) {
      permute = permutation(
        data.rows,
        permutationKey({ job: context.job, round: work.round, parent: work.parent, epoch }),
      );
      permutations.set(epoch, permute);
    }
    return permute(position % data.rows);
  });
  const places = indices.map((index) => placeOf(data.shards, index));
  const found = new Map<number, Row>();
  const shards = [...new Set(places.map(({ shard }) => shard))].sort((a, b) => a - b);
  await fetchShards(context, shards, signal);
  // A round has few rows from each of many shards, so only one decoded shard is in memory at a time.
  for (const shard of shards) {
    const rows = await decodeShard(context, shard);
    for (const [i, place] of places.entries())
      if (place.shard === shard) found.set(indices[i]!, rows[place.row]!);
    signal.throwIfAborted();
  }
  return indices.map((index) => found.get(index)!);
}

type Shards = PhaseContext['manifest']['data']['shards'];

function placeOf(shards: Shards, index: number): { shard: number; row: number } {
  let first = 0;
  for (const [shard, { rows }] of shards.entries()) {
    if (index < first + rows) return { shard, row: index - first };
    first += rows;
  }
  throw nodeError('DATA_MISMATCH', `row ${index} does not exist: the manifest's shards have ${first} rows`, {
    index,
    rows: first,
  });
}

async function fetchShards(
  context: PhaseContext,
  shards: readonly number[],
  signal: AbortSignal,
): Promise<void> {
  const { deps, manifest } = context;
  const refs = shards.map((shard) => manifest.data.shards[shard]!);
  const total = refs.reduce((sum, { size }) => sum + size, 0);
  let done = 0;
  try {
    for (const { digest, size } of refs) {
      if (!(await deps.blobs.has(digest))) {
        await deps.network.fetchBlob(
          { digest, size },
          {
            holders: holdersOf(context, null),
            signal,
            onProgress: ({ bytes }) => context.onDownload({ what: 'data', bytes: done + bytes, total }),
          },
        );
      }
      done += size;
    }
  } finally {
    context.onDownload(null);
  }
}

async function decodeShard({ deps, manifest }: PhaseContext, shard: number): Promise<readonly Row[]> {
  const { digest, size, rows } = manifest.data.shards[shard]!;
  const decoded = decodeRows(await deps.blobs.get(digest, { maxBytes: size }));
  const { sequenceLength } = manifest.data;
  if (decoded.length !== rows || decoded.some(({ ids }) => ids.length !== sequenceLength)) {
    throw nodeError(
      'DATA_MISMATCH',
      `data shard ${digest} does not contain ${rows} rows of ${sequenceLength} tokens`,
      {
        digest,
        rows,
        found: decoded.length,
      },
    );
  }
  return decoded;
}
