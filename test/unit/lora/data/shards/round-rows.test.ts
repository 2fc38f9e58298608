import { expect, it } from 'vitest';
import { permutation, permutationKey } from '../../../../../lora/data/permutation.ts';
import { placesInRound, readRows, shardsOf } from '../../../../../lora/data/shards/round-rows.ts';
import { sha256 } from '../../../../../protocol/cbor.ts';
import { withCode } from '../../../../utils/source/codes.ts';
import { signerOf } from '../../../../utils/swarm/signers.ts';
import { toyJob, toyRows } from '../../../../utils/virtual/toy-job.ts';

const ROWS = 200;
const key = { job: 'j'.repeat(64), round: 3, parent: 'p'.repeat(64) };
const { signal } = new AbortController();

function dataSet() {
  const { manifest, blobs } = toyJob(signerOf(1), { rows: ROWS });
  const bytes = new Map(blobs.map((blob) => [sha256(blob), blob]));
  return { data: manifest.data, read: async ({ digest }: { digest: string }) => bytes.get(digest)! };
}

it('rows of a round are read in the order of their positions, also beyond the end of the data', async () => {
  const { data, read } = dataSet();
  const positions = [0, 199, 57, 200, 3];
  const row = (position: number) => {
    const epoch = Math.floor(position / ROWS);
    return permutation(ROWS, permutationKey({ ...key, epoch }))(position % ROWS);
  };
  const all = toyRows(ROWS);
  const places = placesInRound(data, key, positions);
  expect(await readRows(data, places, { read, signal })).toEqual(positions.map((p) => all[row(p)]!));
  expect(shardsOf(places)).toEqual([...new Set(places.map(({ shard }) => shard))].sort((a, b) => a - b));
});

it('a shard with other rows than the manifest says is refused', async () => {
  const { data, read } = dataSet();
  const places = placesInRound(data, key, [0]);
  const claimed = { ...data, shards: data.shards.map((shard) => ({ ...shard, rows: shard.rows + 1 })) };
  await expect(readRows(claimed, places, { read, signal })).rejects.toMatchObject({ code: 'DATA_MISMATCH' });
  const fewer = { ...data, shards: [] };
  expect(() => placesInRound(fewer, key, [0])).toThrow(withCode('DATA_MISMATCH', { rows: 0 }));
});
