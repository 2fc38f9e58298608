import { expect, test } from 'vitest';
import { mayFetch } from '../../../../node/blobs/blob-access.ts';
import { JobKeys } from '../../../../node/contact/job-keys.ts';
import { NodeStore } from '../../../../node/store/node-store.ts';
import { SCHEMA } from '../../../../node/store/schema.ts';
import { Database } from '../../../../storage/database.ts';
import { testKeys } from '../../../utils/swarm/job-keys.ts';
import { signerOf } from '../../../utils/swarm/signers.ts';

const JOB = 'a'.repeat(64);
const OTHER_JOB = 'b'.repeat(64);
const BLOBS = {
  shard: '1'.repeat(64),
  adapter: '2'.repeat(64),
  update: '3'.repeat(64),
  feedback: '4'.repeat(64),
  optimizer: '5'.repeat(64),
  foreign: '6'.repeat(64),
  absent: '7'.repeat(64),
  shared: 'c'.repeat(64),
};
const [NODE, MEMBER, STRANGER, COORDINATOR, OTHER] = [1, 2, 3, 4, 5].map(
  (number) => signerOf(number).peerId,
) as [string, string, string, string, string];

function openStore(): NodeStore {
  const store = new NodeStore(new Database({ path: ':memory:', schema: SCHEMA }));
  const files = { name: 'toy', base: '8'.repeat(64), diskBytes: 1, at: 1 };
  store.jobFiles.bind({ job: JOB, coordinator: COORDINATOR });
  store.jobFiles.register({ ...files, job: JOB, blobs: [BLOBS.shard, BLOBS.shared] });
  store.jobFiles.bind({ job: OTHER_JOB, coordinator: OTHER });
  store.jobFiles.register({ ...files, job: OTHER_JOB, blobs: [BLOBS.foreign, BLOBS.shared] });
  for (const digest of [BLOBS.shard, BLOBS.shared, BLOBS.adapter]) store.origins.add(digest, COORDINATOR);
  for (const digest of [BLOBS.foreign, BLOBS.shared]) store.origins.add(digest, OTHER);
  store.saveAdapter(JOB, { checkpoint: '9'.repeat(64), digest: BLOBS.adapter, bytes: 1 });
  store.saveUpdate({
    update: {
      job: JOB,
      round: 1,
      update: BLOBS.update,
      bytes: 1,
      preset: 'dense',
      envelope: Uint8Array.of(1),
      at: 1,
    },
    feedback: BLOBS.feedback,
    optimizer: BLOBS.optimizer,
    tokensPerSecond: 1,
    work: { tokens: 1, seconds: 1 },
  });
  return store;
}

/** Returns the names of the blobs that a node serves to a coordinator, or to a peer that may read some jobs. */
function served(store: NodeStore, coordinator: string | null, readable: readonly string[] = []): string[] {
  const audience = { origins: store.origins, coordinator, readable: new Set(readable) };
  return Object.entries(BLOBS)
    .filter(([, digest]) => mayFetch(digest, audience))
    .map(([name]) => name);
}

test('a node serves updates to their coordinator only, and error feedback and moments to no peer', () => {
  const store = openStore();
  expect(served(store, COORDINATOR)).toEqual(['shard', 'adapter', 'update', 'shared']);
  expect(served(store, null, [JOB])).toEqual(['shard', 'adapter', 'shared']);
  expect(served(store, null)).toEqual([]);
});

test('a coordinator gets nothing of the jobs of another coordinator, unless it may read them', () => {
  const store = openStore();
  expect(served(store, OTHER)).toEqual(['foreign', 'shared']);
  expect(served(store, OTHER, [JOB])).toEqual(['shard', 'adapter', 'foreign', 'shared']);
});

test('a coordinator that names the blobs of another job in its manifest gets none of them', () => {
  const store = openStore();
  const { shared: _, foreign: __, ...blobs } = BLOBS;
  const job = 'e'.repeat(64);
  store.jobFiles.bind({ job, coordinator: OTHER });
  const files = { job, name: 'probe', base: '8'.repeat(64), diskBytes: 1, at: 1 };
  store.jobFiles.register({ ...files, blobs: Object.values(blobs) });
  expect(served(store, OTHER, [job])).toEqual(['foreign', 'shared']);
});

test('a settled update is no longer served', () => {
  const store = openStore();
  store.settle(JOB, 1, { outcome: 'counted', feedback: null });
  expect(served(store, COORDINATOR)).not.toContain('update');
});

test('a peer is admitted by a proof with the newest key, which no other peer can use, and not at another node', () => {
  const keysOf = (self: string, id = 1, job = JOB): JobKeys => new JobKeys({ job, self }, testKeys(id));
  const node = keysOf(NODE);
  const proof = keysOf(MEMBER).prove(NODE);
  expect(node.admits(MEMBER, proof)).toBe(true);
  expect(node.admits(MEMBER, null)).toBe(false);
  expect(node.admits(STRANGER, proof)).toBe(false);
  expect(keysOf(STRANGER).admits(MEMBER, proof)).toBe(false);
  expect(keysOf(NODE, 2).admits(MEMBER, proof)).toBe(false);
  expect(keysOf(NODE, 1, 'b'.repeat(64)).admits(MEMBER, proof)).toBe(false);
  expect(node.admits(MEMBER, { ...proof, mac: new Uint8Array(32) })).toBe(false);
  expect(node.admits(MEMBER, { id: 1, mac: new Uint8Array(0) })).toBe(false);
});
