import { expect, test } from 'vitest';
import { type BlobAudience, mayFetch, NamedPeers } from '../../../node/blob-access.ts';
import { NodeStore } from '../../../node/store/node-store.ts';
import { MIGRATIONS } from '../../../node/store/schema.ts';
import { Database } from '../../../storage/database.ts';
import { signerOf } from '../../utils/signers.ts';
import { makeHead } from './heads.ts';

const JOB = 'a'.repeat(64);
const BLOBS = {
  shard: '1'.repeat(64),
  adapter: '2'.repeat(64),
  update: '3'.repeat(64),
  feedback: '4'.repeat(64),
  optimizer: '5'.repeat(64),
  foreign: '6'.repeat(64),
  absent: '7'.repeat(64),
};
const [COORDINATOR, MEMBER, STRANGER] = [1, 2, 3].map((number) => signerOf(number).peerId) as [
  string,
  string,
  string,
];

function audience(isOpen: boolean): BlobAudience {
  const store = new NodeStore(new Database({ path: ':memory:', migrations: MIGRATIONS }));
  const files = { base: '8'.repeat(64), diskBytes: 1, at: 1 };
  store.jobFiles.register({ ...files, job: JOB, blobs: [BLOBS.shard] });
  store.jobFiles.register({ ...files, job: 'b'.repeat(64), blobs: [BLOBS.foreign] });
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
  });
  const members = new NamedPeers();
  const head = makeHead({ sequence: 1, round: 1 });
  members.note({ ...head, assignments: [{ peer: MEMBER, start: 0, end: 1, steps: 1 }] });
  return {
    store,
    isCoordinator: (peer) => peer === COORDINATOR,
    job: { digest: JOB, isOpen, members },
  };
}

function served(peer: string, to: BlobAudience): string[] {
  return Object.entries(BLOBS)
    .filter(([, digest]) => mayFetch(peer, digest, to))
    .map(([name]) => name);
}

test('a node serves updates to its coordinator only, and error feedback and moments to no peer', () => {
  for (const isOpen of [false, true]) {
    const to = audience(isOpen);
    expect(served(COORDINATOR, to)).toEqual(['shard', 'adapter', 'update', 'foreign']);
    expect(served(MEMBER, to)).toEqual(['shard', 'adapter']);
    expect(served(STRANGER, to)).toEqual(isOpen ? ['shard', 'adapter'] : []);
  }
});

test('a node that has not joined serves only its coordinator', () => {
  const to = { ...audience(true), job: null };
  expect(served(COORDINATOR, to)).toContain('update');
  expect(served(MEMBER, to)).toEqual([]);
});

test('a settled update is no longer served', () => {
  const to = audience(false);
  (to.store as NodeStore).settle(JOB, 1, { outcome: 'counted', feedback: null });
  expect(served(COORDINATOR, to)).not.toContain('update');
});

test('a peer that the heads of the last two rounds do not name is no longer a known member', () => {
  const members = new NamedPeers();
  const naming = {
    ...makeHead({ sequence: 1, round: 5 }),
    included: [{ peer: MEMBER, update: BLOBS.update }],
  };
  members.note(naming);
  members.note(makeHead({ sequence: 2, round: 7 }));
  expect(members.has(MEMBER)).toBe(true);
  members.note(makeHead({ sequence: 3, round: 8 }));
  expect(members.has(MEMBER)).toBe(false);
});
