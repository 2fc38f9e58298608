import { describe, expect, it } from 'vitest';
import type { CoordinatorDeps } from '../../../../coordinator/context.ts';
import { bundleSource, repairBundled } from '../../../../coordinator/record/job-record.ts';
import { BlobRepair } from '../../../../coordinator/recovery/blob-repair.ts';
import { HOLDERS, TURN_MS } from '../../../../coordinator/recovery/fetch-in-turns.ts';
import { silentLogger } from '../../../../monitor/logs/log.ts';
import type { FetchBlobOptions } from '../../../../net/network.ts';
import { sha256 } from '../../../../protocol/cbor.ts';
import { BLOB_RANGE_BYTES } from '../../../../protocol/limits.ts';
import { transferMs } from '../../../../protocol/requests/rpc.ts';
import { verifyMessage } from '../../../../protocol/signing.ts';
import { MemoryBlobs } from '../../../utils/virtual/memory-blobs.ts';
import { ScriptedPeer } from '../scripted-peer.ts';
import { World } from '../world.ts';

/** Runs the first round of a job of four rounds, with one node. */
async function trained() {
  const world = new World({ rounds: { count: 4, minPeers: 1, localSteps: 1 } });
  await world.start();
  const peer = new ScriptedPeer(1, world);
  let isWorking = true;
  const finished = (): boolean => !isWorking || (world.alive && world.run?.driver.state.phase === 'finished');
  // The deltas differ from round to round. Otherwise a later payload could have the same bytes as the damaged delta.
  await peer.work((round) => 0.01 * round, finished);
  await world.until(() => world.run.record.checkpoint.checkpoint.round >= 1, 'the first checkpoint');
  const digests = () => {
    const { checkpoint, digest, residual } = world.run.record.checkpoint;
    return { body: digest, residual, adapter: checkpoint.adapter.digest, delta: checkpoint.delta!.digest };
  };
  const end = () => world.until(() => world.run.driver.state.phase === 'finished', 'the end of the job');
  const stopPeer = () => {
    isWorking = false;
  };
  return { world, peer, digests, end, stopPeer };
}

/** Flips one bit of a blob on the coordinator's disk. */
function damage({ disk }: World, digest: string): void {
  const bytes = disk.files.get(digest)!.slice();
  bytes[bytes.length >> 1]! ^= 1;
  disk.files.set(digest, bytes);
}

function eventsOf({ store, toy }: World) {
  return store.events
    .after(toy.job, 0, 1_000)
    .filter(({ type }) => type === 'blob-damaged' || type === 'blob-repaired');
}

describe('a coordinator whose newest adapter is damaged on disk', () => {
  it('rebuilds it from its parent and its delta, and the job ends', async () => {
    const { world, digests, end } = await trained();
    const { adapter } = digests();
    damage(world, adapter);
    const written: number[] = [];
    world.laidOut = ({ checkpoint }) => written.push(checkpoint.round);
    await end();
    // The folder of round 1 is written again, because its hard link leads to the damaged file.
    expect(written).toContain(1);
    expect(eventsOf(world)).toMatchObject([
      { type: 'blob-damaged', what: 'adapter', name: 'round 1', digest: adapter },
      { type: 'blob-repaired', what: 'adapter', digest: adapter, how: 'rebuilt' },
    ]);
    expect(world.store.rounds.count(world.toy.job, 'checkpoint')).toBe(4);
  });

  it('fetches it from a node if the delta is damaged too', async () => {
    const { world, peer, digests, end } = await trained();
    const { adapter, delta } = digests();
    peer.disk.files.set(adapter, world.disk.files.get(adapter)!);
    for (const digest of [adapter, delta]) damage(world, digest);
    await end();
    expect(eventsOf(world)).toContainEqual(
      expect.objectContaining({ type: 'blob-repaired', digest: adapter, how: 'fetched' }),
    );
  });

  it('pauses the job if no node ever has it, and a resume merges the round', async () => {
    const { world, peer, digests, stopPeer } = await trained();
    const { adapter, delta } = digests();
    const whole = world.disk.files.get(adapter)!;
    for (const digest of [adapter, delta]) damage(world, digest);
    await world.until(() => world.run.driver.state.phase === 'validating', 'the merge');
    stopPeer();
    await world.pass(27 * 60_000);
    expect(world.run.driver.state).toMatchObject({ phase: 'paused', pauseCause: 'problem' });
    const paused = world.store.events.after(world.toy.job, 0, 1_000).filter(({ type }) => type === 'paused');
    expect(paused).toHaveLength(1);
    peer.disk.files.set(adapter, whole);
    world.run.operate({ type: 'resume' });
    await world.until(() => world.run.record.checkpoint.checkpoint.round === 2, 'the merge after the resume');
  });

  it('finds it at the next start, before the adapter is needed', async () => {
    const { world, digests } = await trained();
    const { adapter, body } = digests();
    expect(() => world.kill()).toThrow();
    for (const digest of [adapter, body]) damage(world, digest);
    await world.start();
    await world.pass(1_000);
    const repaired = eventsOf(world).filter(({ type }) => type === 'blob-repaired');
    expect(repaired).toMatchObject([{ what: 'adapter' }, { what: 'checkpoint' }]);
    expect(world.coordinator.repair.damaged).toEqual([]);
  });
});

it('a lost residual does not stop a job', async () => {
  const { world, digests, end } = await trained();
  world.disk.files.delete(digests().residual!);
  await end();
  expect(eventsOf(world)).toMatchObject([{ type: 'blob-damaged', what: 'residual', name: 'round 1' }]);
});

it('the scrub finds a damaged blob that no round needs, and says so if it cannot be repaired', async () => {
  const { world, peer, end } = await trained();
  await end();
  const [shard] = world.toy.manifest.data.shards;
  damage(world, shard!.digest);
  await world.pass(5 * 60_000);
  expect(eventsOf(world)).toMatchObject([{ type: 'blob-damaged', what: 'data', name: 'shard 0' }]);
  expect(world.coordinator.repair.damaged).toEqual([expect.stringMatching(/\bdata\b.*\bshard 0\b.*\btoy$/)]);
  for (const bytes of world.toy.blobs) peer.disk.files.set(sha256(bytes), bytes);
  await world.pass(5 * 60_000);
  expect(eventsOf(world).at(-1)).toMatchObject({ type: 'blob-repaired', what: 'data', how: 'fetched' });
});

it('repairs the first checkpoint only from a node, because it has no parent', async () => {
  const { world, peer, end } = await trained();
  await end();
  const initial = verifyMessage('checkpoint', world.store.rounds.checkpoint(world.toy.job, 0)!.envelope);
  const { digest } = initial.message.adapter;
  const whole = world.disk.files.get(digest)!;
  damage(world, digest);
  expect(await world.settle(world.coordinator.repair.repair(digest))).toBe(false);
  peer.disk.files.set(digest, whole);
  await world.pass(61_000);
  expect(await world.settle(world.coordinator.repair.repair(digest))).toBe(true);
});

it('asks a member that has connected since the failed attempt, without a pause', async () => {
  const { world, end } = await trained();
  await end();
  const [shard] = world.toy.manifest.data.shards;
  const whole = world.disk.files.get(shard!.digest)!;
  damage(world, shard!.digest);
  const repair = () => world.settle(world.coordinator.repair.repair(shard!.digest));
  expect(await repair()).toBe(false);
  const other = new ScriptedPeer(2, world);
  other.disk.files.set(shard!.digest, whole);
  const has = world.run.members.list.has.bind(world.run.members.list);
  Object.assign(world.run.members.list, { has: (peer: string) => peer === other.id || has(peer) });
  expect(await repair()).toBe(false);
  await other.ask('head', { job: world.toy.job });
  expect(await repair()).toBe(true);
});

it('asks further members if the first eight do not have a blob', async () => {
  const { world, end } = await trained();
  await end();
  const others = Array.from({ length: 11 }, (_, i) => new ScriptedPeer(i + 2, world));
  for (const other of others) await other.ask('head', { job: world.toy.job });
  const members = new Set(others.map(({ id }) => id));
  Object.assign(world.run.members.list, { has: (peer: string) => members.has(peer) });
  const [shard] = world.toy.manifest.data.shards;
  others.at(-1)!.disk.files.set(shard!.digest, world.disk.files.get(shard!.digest)!);
  damage(world, shard!.digest);
  expect(await world.settle(world.coordinator.repair.repair(shard!.digest))).toBe(true);
});

it('limits the time of an attempt, and begins the next one with other holders', async () => {
  const { world, end } = await trained();
  await end();
  const { run, store, clock, toy } = world;
  Object.assign(run.members.list, { has: () => true });
  const holders = Array.from({ length: 2 * HOLDERS }, (_, i) => `holder ${i}`);
  const calls: (readonly string[])[] = [];
  /** Delivers a range in each half turn, but never the whole blob. */
  const fetchBlob = ({ size }: { size: number }, { holders, signal, onProgress }: FetchBlobOptions) => {
    calls.push(holders);
    const deliver = (ranges: number): void => {
      onProgress!({ bytes: ranges * BLOB_RANGE_BYTES, total: size });
      if (!signal.aborted) clock.after(TURN_MS / 2, () => deliver(ranges + 1));
    };
    deliver(1);
    return new Promise<void>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
  };
  const network = {
    peers: () => holders.map((peer) => ({ peer })),
    networkOf: (peer: string) => peer,
    fetchBlob,
  };
  const repair = new BlobRepair({
    store,
    blobs: {} as CoordinatorDeps['blobs'],
    network: network as unknown as CoordinatorDeps['network'],
    clock,
    log: silentLogger,
    runs: new Map([[toy.job, run]]),
    signal: new AbortController().signal,
  });
  const { digest, size } = toy.manifest.data.shards[0]!;
  for (const _ of [1, 2]) {
    const start = clock.monotonic();
    expect(await world.settle(repair.repair(digest))).toBe(false);
    expect(clock.monotonic() - start).toBeLessThanOrEqual(2 * transferMs(size) + TURN_MS);
    await world.pass(61_000);
  }
  expect(calls).toEqual([holders.slice(0, HOLDERS), holders.slice(HOLDERS)]);
});

describe('the blobs of a bundle', () => {
  const repaired = async (world: World) => {
    const { run, store, disk, clock, random, coordinator } = world;
    const blobs = new MemoryBlobs({ disk, clock, random, isAlive: () => true });
    const source = bundleSource(run, { withBlobs: true });
    const { repair } = coordinator;
    const { signal } = new AbortController();
    const steps = repairBundled(source, { blobs, store, repair, signal });
    const progress: unknown[] = [];
    for (;;) {
      const { done, value } = await world.settle(steps.next());
      if (done) return { missing: value, progress };
      progress.push(value);
    }
  };

  it('are repaired before the bundle is written', async () => {
    const { world, digests, end } = await trained();
    await end();
    const { adapter, delta, residual } = digests();
    const whole = world.disk.files.get(adapter)!;
    damage(world, adapter);
    world.disk.files.delete(residual!);
    const lost = { use: 'residual', round: expect.any(Number), digest: residual };
    const { missing, progress } = await repaired(world);
    expect(missing).toEqual([lost]);
    expect(world.disk.files.get(adapter)).toEqual(whole);
    const repairing = { use: 'adapter', round: 4, digest: adapter };
    expect(progress).toContainEqual({ checked: expect.any(Number), blobs: expect.any(Number), repairing });
    expect(progress.at(-1)).toMatchObject({ repairing: null });
    // Without the delta, and without a holder, the adapter cannot be computed.
    for (const digest of [adapter, delta]) damage(world, digest);
    await world.pass(61_000);
    expect((await repaired(world)).missing).toEqual([
      lost,
      { use: 'adapter', round: 4, digest: adapter },
      { use: 'delta', round: 4, digest: delta },
    ]);
  });
});
