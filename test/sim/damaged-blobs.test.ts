import { expect, test, vi } from 'vitest';
import { silentLogger } from '../../monitor/logs/log.ts';
import { sha256 } from '../../protocol/cbor.ts';
import { virtualEnvironment } from '../utils/virtual/environment.ts';
import { toyJob } from '../utils/virtual/toy-job.ts';
import { VirtualNode } from '../utils/virtual/virtual-node.ts';
import { COORDINATOR, VirtualCoordinator } from './virtual-coordinator.ts';

/** A coordinator with one node that has trained a round, and a second node that has not started. */
async function swarm({ rounds = 6 } = {}) {
  const { clock, network, random } = virtualEnvironment(1, { delayMs: [1, 50] });
  const environment = { clock, network, random, log: silentLogger };
  const toy = toyJob(COORDINATOR, { rounds: { count: rounds, minPeers: 1, maxSeconds: 60, localSteps: 4 } });
  const coordinator = new VirtualCoordinator({ toy, retention: { checkpoints: 2, rounds: 3 } }, environment);
  const [holder, newcomer] = [1, 2].map(
    (number) =>
      new VirtualNode(
        { number, coordinator: COORDINATOR.peerId, layout: toy.layout, msPerStep: 500 },
        environment,
      ),
  ) as [VirtualNode, VirtualNode];
  coordinator.start();
  holder.start();
  const newest = () => coordinator.store.rounds.newestCheckpoints(toy.job, 1)[0]?.round;
  expect(await clock.run(() => newest() === 1, 60_000)).toBe(true);
  const cut = (digest: string): void => {
    coordinator.disk.files.set(digest, coordinator.disk.files.get(digest)!.slice(0, -1));
  };
  const events = () => coordinator.store.events.after(toy.job, 0, 10_000);
  return { clock, coordinator, toy, holder, newcomer, cut, events };
}

test('a newcomer gets a truncated base, because the coordinator fetches it from another node', async () => {
  const { clock, coordinator, toy, newcomer, cut, events } = await swarm();
  const [file] = toy.manifest.base.files;
  cut(file!.digest);
  newcomer.start();
  const isTraining = (): boolean => newcomer.swarmNode.view().state.phase === 'training';
  expect(await clock.run(isTraining, 60_000)).toBe(true);
  expect(events().filter(({ type }) => type.startsWith('blob-'))).toMatchObject([
    { type: 'blob-damaged', what: 'base', name: file!.path },
    { type: 'blob-repaired', how: 'fetched' },
  ]);
  expect(coordinator.disk.files.get(file!.digest)).toHaveLength(file!.size);
});

test('a newcomer learns why it cannot get the base if no node has a whole copy', async () => {
  const { clock, coordinator, toy, holder, newcomer, cut, events } = await swarm();
  const [file] = toy.manifest.base.files;
  cut(file!.digest);
  holder.crash();
  newcomer.start();
  await clock.run(() => false, 20_000);
  expect(newcomer.swarmNode.view().state.reason).toMatch(new RegExp(`${file!.digest}.*\\bdamaged\\b`));
  expect(events().filter(({ type }) => type.startsWith('blob-'))).toMatchObject([{ type: 'blob-damaged' }]);
  // The node with a whole copy of the file comes back.
  holder.start();
  const isWhole = (): boolean => coordinator.disk.files.get(file!.digest)?.length === file!.size;
  expect(await clock.run(isWhole, 5 * 60_000)).toBe(true);
});

test('a node finds its damaged files, and fetches them again', async () => {
  const { clock, toy, holder } = await swarm({ rounds: 80 });
  const [base] = toy.manifest.base.files;
  const digests = [base!.digest, ...toy.manifest.data.shards.map(({ digest }) => digest)];
  const { files } = holder.disk;
  const prepared = vi.spyOn(holder.trainer, 'prepare');
  const whole = new Map(digests.map((digest) => [digest, files.get(digest)!]));
  for (const [digest, bytes] of whole) files.set(digest, flipped(bytes));
  const isWhole = (): boolean =>
    digests.every((digest) => files.get(digest) && sha256(files.get(digest)!) === digest);
  expect(await clock.run(isWhole, 3 * 60_000)).toBe(true);
  expect(holder.done).toBe(false);
  // When the base is whole again, the trainer loads it anew.
  expect(await clock.run(() => prepared.mock.calls.length === 1, 10_000)).toBe(true);
  expect(await clock.run(() => holder.done, 10 * 60_000)).toBe(true);
});

test('a node that has finished its job fetches a damaged adapter again, because it serves the adapter', async () => {
  const { clock, toy, holder } = await swarm();
  expect(await clock.run(() => holder.done, 5 * 60_000)).toBe(true);
  const adapter = holder.store.job(toy.job).adapter!;
  const { files } = holder.disk;
  files.set(adapter, flipped(files.get(adapter)!));
  const isWhole = (): boolean => sha256(files.get(adapter) ?? new Uint8Array()) === adapter;
  expect(await clock.run(isWhole, 3 * 60_000)).toBe(true);
});

function flipped(bytes: Uint8Array): Uint8Array {
  return bytes.map((byte, i) => (i === 0 ? byte ^ 1 : byte));
}
