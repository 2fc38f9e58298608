import { existsSync } from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { SwarmError } from '../../../../common/errors.ts';
import { silentLogger } from '../../../../monitor/logs/log.ts';
import type { FetchBlobOptions } from '../../../../net/network.ts';
import {
  fetchOwnCheckpoint,
  joinedJob,
  joinedWith,
  removePulled,
} from '../../../../node/reader/own-checkpoint.ts';
import { KnownJobs } from '../../../../node/store/known-jobs.ts';
import { sha256 } from '../../../../protocol/cbor.ts';
import { signMessage } from '../../../../protocol/signing.ts';
import { FileBlobStore } from '../../../../storage/blob-store.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { ManualClock } from '../../../utils/manual-clock.ts';
import { signerOf } from '../../../utils/swarm/signers.ts';
import { toyJob } from '../../../utils/virtual/toy-job.ts';

const [FIRST, SECOND] = ['ab'.repeat(32), 'cd'.repeat(32)] as const;
const invite = (job: string) => ({
  addresses: [`/ip4/127.0.0.1/tcp/4040/p2p/${signerOf(1).peerId}`],
  job,
  invite: 'token',
});

it('finds the jobs that a node has joined, also after they have ended', async () => {
  const home = await temporaryFolder();
  const known = new KnownJobs({ home }, { log: silentLogger });
  known.remember(invite(FIRST), { job: FIRST, name: 'moby' });
  known.remember(invite(SECOND), { job: SECOND, name: 'moby' });
  known.forget(invite(FIRST));
  known.forget(invite(SECOND));
  await known.saved();
  expect(await joinedJob(home, 'moby')).toMatchObject({ job: SECOND, token: 'token' });
  expect(await joinedJob(home, FIRST.slice(0, 6))).toMatchObject({ job: FIRST });
  await expect(joinedJob(home, 'beta')).rejects.toMatchObject({
    code: 'JOB_NOT_FOUND',
    message: expect.stringMatching(/"beta".*moby/),
    next: expect.stringContaining('--home'),
  });
});

it('finds the job that a node has joined with an invite', async () => {
  const home = await temporaryFolder();
  const known = new KnownJobs({ home }, { log: silentLogger });
  known.remember(invite(FIRST), { job: FIRST, name: 'moby' });
  await known.saved();
  expect(await joinedWith(home, { token: 'token' })).toBe(FIRST);
  expect(await joinedWith(home, { token: 'token', job: FIRST })).toBe(FIRST);
  expect(await joinedWith(home, { token: 'token', job: SECOND })).toBeNull();
  expect(await joinedWith(home, { token: 'other' })).toBeNull();
  expect(await joinedWith(home, { job: FIRST })).toBeNull();
});

/** A node that has joined a job, and a coordinator that gives the adapter of the job's checkpoint if `gives` is true. */
async function setUp() {
  const [home, clock, signer] = [await temporaryFolder(), new ManualClock(), signerOf(1)];
  const { job, manifest, envelope } = toyJob(signer, {});
  const known = new KnownJobs({ home }, { log: silentLogger });
  known.remember(invite(job), { job, name: 'toy' });
  await known.saved();
  const adapter = Buffer.from('the adapter');
  const digest = sha256(adapter);
  const checkpoint = {
    ...{ digest: FIRST, round: 0, ordinal: 0, delta: null, heldOutLoss: null },
    adapter: { digest, size: adapter.byteLength },
  };
  const head = {
    ...{
      job,
      term: 1,
      sequence: 1,
      phase: 'waiting' as const,
      round: 1,
      preset: 'dense' as const,
      checkpoint,
    },
    ...{ assignments: [], deadlineMs: 1000, included: [], reason: '', issuedAt: 0 },
  };
  const answers: Record<string, object> = {
    jobs: { jobs: [{ job, name: manifest.name, phase: 'waiting' }] },
    manifest: { manifest: envelope, head: signMessage('head', head, signer) },
    record: { checkpoints: [] },
    recheck: { state: 'checking' },
  };
  const blobs = await FileBlobStore.open({ home }, { clock });
  const state = { gives: true, fetches: 0, isOrigin: false };
  const network = {
    connect: async () => signer.peerId,
    request: async (_peer: string, method: string) => answers[method],
    fetchBlob: async (_ref: object, { into = blobs, again }: FetchBlobOptions) => {
      if (!again && (await into.has(digest))) return;
      state.fetches++;
      if (!state.gives) throw new SwarmError('BLOB_UNAVAILABLE', 'no holder has the blob', {});
      await into.put(adapter);
    },
  };
  const collector = { withScope: (work: (scope: object) => unknown) => work({ hold: async () => {} }) };
  const deps = { network, blobs, clock, collector, origins: { has: () => state.isOrigin } };
  const pull = () => fetchOwnCheckpoint({ home, job }, deps as never, new AbortController().signal);
  return { home, adapter, blobs, state, pull };
}

it('a pull leaves the weights of an earlier pull alone, and a new start of the node deletes them', async () => {
  const { home, adapter, pull } = await setUp();
  const [first, second] = [await pull(), await pull()];
  expect(await readFile(first.weights)).toEqual(adapter);
  await rm(first.weights);
  expect(await readFile(second.weights)).toEqual(adapter);
  await removePulled(home);
  expect(existsSync(second.weights)).toBe(false);
});

it('a pull gives no blob of the node that another coordinator supplied', async () => {
  const { adapter, blobs, state, pull } = await setUp();
  await blobs.put(adapter);
  state.gives = false;
  await expect(pull()).rejects.toMatchObject({ code: 'BLOB_UNAVAILABLE' });
  expect(state.fetches).toBe(1);
  state.isOrigin = true;
  expect(await readFile((await pull()).weights)).toEqual(adapter);
  expect(state.fetches).toBe(1);
});
