import { mkdir, readdir, readFile, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { expect, it, onTestFinished } from 'vitest';
import { encodeAdapter } from '../../../../lora/adapter/codec.ts';
import { type FollowEvent, JobFollower } from '../../../../node/reader/job-follower.ts';
import { sha256 } from '../../../../protocol/cbor.ts';
import { signMessage } from '../../../../protocol/signing.ts';
import { eventually } from '../../../utils/eventually.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { startHost } from '../../../utils/swarm/hosts.ts';
import { testKeys } from '../../../utils/swarm/job-keys.ts';
import { toyJob } from '../../../utils/virtual/toy-job.ts';

const HOUR_MS = 60 * 60 * 1000;

/** A coordinator on loopback whose newest checkpoint and health a test sets. */
async function coordinator() {
  const host = await startHost();
  const toy = toyJob(host.network.signer);
  const state = { round: 0, sequence: 1, isAway: false };
  const adapters = [0, 1, 2, 3].map((round) => {
    const tensors = toy.layout.map(({ shape }) => new Float32Array(shape[0] * shape[1]).fill(round));
    return encodeAdapter(toy.layout, tensors, toy.manifest.base.digest);
  });
  for (const bytes of adapters) await host.blobs.put(bytes);
  const digestOf = (round: number): string => sha256(Buffer.from(`checkpoint ${round}`));
  const head = (): Uint8Array<ArrayBuffer> => {
    if (state.isAway) throw new Error('the database is locked');
    const { round, sequence } = state;
    const adapter = { digest: sha256(adapters[round]!), size: adapters[round]!.byteLength };
    const checkpoint = {
      digest: digestOf(round),
      round,
      ordinal: round,
      adapter,
      delta: null,
      heldOutLoss: null,
    };
    const message = {
      ...{ job: toy.job, term: 1, sequence, phase: 'waiting' as const, round: round + 1, checkpoint },
      ...{ preset: 'balanced' as const, assignments: [], deadlineMs: 0, included: [] },
      ...{ reason: '', issuedAt: 0 },
    };
    return new Uint8Array(signMessage('head', message, host.network.signer));
  };
  const { network } = host;
  network.handle('jobs', async () => ({
    jobs: [{ job: toy.job, name: 'toy', phase: 'waiting' }],
    others: false,
  }));
  network.handle('manifest', async () => ({ manifest: new Uint8Array(toy.envelope), head: head() }));
  network.handle('head', async () => ({ head: head(), keys: testKeys(1) }));
  return { state, network, adapters, digestOf, base: toy.manifest.base.digest };
}

async function follow(base: string, addresses: readonly string[]) {
  const folder = await temporaryFolder();
  const events: FollowEvent[] = [];
  const life = new AbortController();
  const opening = JobFollower.open(
    { addresses, folder, base: { digest: base, dir: '/base' }, lookMs: 50, signal: life.signal },
    { onEvent: (event) => events.push(event) },
  );
  onTestFinished(async () => {
    life.abort();
    await (await opening.catch(() => null))?.close();
  });
  return { folder, events, opening };
}

it('fetches each new checkpoint, keeps two, and goes on when the coordinator does not answer', async () => {
  const { state, network, adapters, digestOf, base } = await coordinator();
  const { folder, events, opening } = await follow(base, network.addresses());
  const follower = await opening;
  expect(follower.name).toBe('toy');
  const roundsAre = (...rounds: number[]) =>
    eventually(() =>
      isDeepStrictEqual(
        follower.checkpoints.map(({ round }) => round),
        rounds,
      ),
    );
  await roundsAre(0);
  Object.assign(state, { round: 1, sequence: 2 });
  await roundsAre(1, 0);
  state.isAway = true;
  await eventually(() => events.at(-1)?.type === 'waiting');
  Object.assign(state, { round: 2, sequence: 3, isAway: false });
  await roundsAre(2, 1);
  const [newest] = follower.checkpoints;
  expect(newest!.digest).toBe(digestOf(2));
  expect(await readFile(join(newest!.folder, 'adapter_model.safetensors'))).toEqual(
    Buffer.from(adapters[2]!),
  );
  await eventually(() => events.at(-1)?.type === 'reached');
  expect(events.map(({ type }) => type)).toEqual([
    'checkpoint',
    'checkpoint',
    'waiting',
    'checkpoint',
    'reached',
  ]);
  // An older head, of a coordinator that was restored from a backup, changes nothing.
  Object.assign(state, { round: 0, sequence: 1 });
  await roundsAre(2, 1);
  const [home] = await readdir(folder);
  await eventually(async () => (await foldersIn(join(folder, home!))).length === 2);
  await follower.close();
  expect(await readdir(folder)).toEqual([]);
});

it('waits for a coordinator that does not answer, and refuses another base at once', async () => {
  const { network, base } = await coordinator();
  const [address] = network.addresses();
  const nowhere = address!.replace(/\/tcp\/\d+\//, '/tcp/9/');
  const { events } = await follow(base, [nowhere]);
  await eventually(() => events.at(-1)?.type === 'waiting');
  const other = await follow('f'.repeat(64), network.addresses());
  await expect(other.opening).rejects.toMatchObject({
    code: 'ADAPTER_BASE',
    values: { found: 'f'.repeat(64) },
  });
  expect(await readdir(other.folder)).toEqual([]);
});

it('deletes the folders of killed followers only', async () => {
  const { network, base } = await coordinator();
  const folder = await temporaryFolder();
  // The process id is larger than any on Linux.
  const [killed, elsewhere, running] = ['4194305-killed', '4194305-elsewhere', `${process.pid}-running`];
  for (const [name, hours] of [
    [killed, 2],
    [elsewhere, 0],
    [running, 2],
  ] as const) {
    await mkdir(join(folder, name));
    const at = new Date(Date.now() - hours * HOUR_MS);
    await utimes(join(folder, name), at, at);
  }
  const follower = await JobFollower.open(
    {
      addresses: network.addresses(),
      folder,
      base: { digest: base, dir: '' },
      signal: new AbortController().signal,
    },
    { onEvent: () => {} },
  );
  const names = await readdir(folder);
  expect(names).toHaveLength(3);
  expect(names).toEqual(expect.arrayContaining([elsewhere, running]));
  await follower.close();
});

/** Lists the folders of checkpoints, whose names are digests. */
async function foldersIn(home: string): Promise<string[]> {
  return (await readdir(home)).filter((name) => /^[0-9a-f]{64}$/.test(name));
}
