import { expect, it } from 'vitest';
import { permutation, permutationKey } from '../../../../lora/data/permutation.ts';
import { FetchTurns } from '../../../../node/blobs/fetch-turns.ts';
import type { Work } from '../../../../node/machine/work.ts';
import type { PhasePort } from '../../../../node/phases/port.ts';
import { rowsOf } from '../../../../node/phases/round-rows.ts';
import { NodeStore } from '../../../../node/store/node-store.ts';
import { sha256 } from '../../../../protocol/cbor.ts';
import { signerOf } from '../../../utils/swarm/signers.ts';
import { toyJob, toyRows } from '../../../utils/virtual/toy-job.ts';
import { VirtualClock } from '../../../utils/virtual/virtual-clock.ts';

const ROWS = 1280;
const work = { round: 3, parent: 'p'.repeat(64), start: 40, end: 46 } as Work;

/** A node without any blob, and the digests that it fetches. */
function node() {
  const toy = toyJob(signerOf(1), { rows: ROWS });
  const offered = new Map(toy.blobs.map((bytes) => [sha256(bytes), bytes]));
  const held = new Map<string, Uint8Array>();
  const fetched: string[] = [];
  const context = {
    job: toy.job,
    manifest: toy.manifest,
    coordinator: 'coordinator',
    onDownload: () => {},
    deps: {
      store: { origins: NodeStore.open(':memory:').origins },
      fetchTurns: new FetchTurns({ clock: new VirtualClock(0) }),
      blobs: {
        has: async (digest: string) => held.has(digest),
        get: async (digest: string) => held.get(digest)!,
      },
      network: {
        peers: () => [],
        signer: { peerId: 'self' },
        fetchBlob: async ({ digest }: { digest: string }) => {
          fetched.push(digest);
          held.set(digest, offered.get(digest)!);
        },
      },
    },
  } as unknown as PhasePort;
  return { context, fetched };
}

it('a node fetches each data shard that has rows of its interval once, and no others', async () => {
  const { context, fetched } = node();
  const { job, manifest } = context;
  const { shards } = manifest.data;
  const permute = permutation(
    ROWS,
    permutationKey({ job, round: work.round, parent: work.parent, epoch: 0 }),
  );
  const indices = [40, 41, 42, 43, 44, 45].map(permute);
  const perShard = shards[0]!.rows;
  const needed = new Set(indices.map((index) => shards[Math.floor(index / perShard)]!.digest));
  expect(needed.size).toBeLessThan(shards.length);

  const signal = new AbortController().signal;
  const all = toyRows(ROWS);
  // The round needs two rows more than the interval has, so the interval is repeated.
  const expected = [...indices, ...indices.slice(0, 2)].map((index) => all[index]!);
  expect(await rowsOf(context, work, 8, signal)).toEqual(expected);
  expect([...fetched].sort()).toEqual([...needed].sort());
  await rowsOf(context, work, 8, signal);
  expect(fetched).toHaveLength(needed.size);
});
