import { describe, expect, test } from 'vitest';
import type { Logger } from '../../../../common/logger.ts';
import { silentLogger } from '../../../../monitor/logs/log.ts';
import type { SwarmNodeOptions } from '../../../../node/jobs/context.ts';
import { defaultPolicy } from '../../../../node/limits/policy.ts';
import { reportedState } from '../../../../node/machine/reported-state.ts';
import { withCode } from '../../../utils/source/codes.ts';
import { signerOf } from '../../../utils/swarm/signers.ts';
import { virtualEnvironment } from '../../../utils/virtual/environment.ts';
import { type ToyJob, toyJob } from '../../../utils/virtual/toy-job.ts';
import { addressOf } from '../../../utils/virtual/virtual-network.ts';
import { type VirtualEnvironment, VirtualNode } from '../../../utils/virtual/virtual-node.ts';
import { ScriptedCoordinator } from '../scripted-coordinator.ts';

const SIGNERS = [signerOf(200), signerOf(201)] as const;
const STEP_MS = 1_000;

/** Sets up one node with two invites, and a scripted coordinator for each of them. */
function setUp(
  more: Partial<SwarmNodeOptions> = {},
  { toys: given, options }: { toys?: readonly ToyJob[]; options?: Partial<SwarmNodeOptions> } = {},
) {
  const { clock, network, random } = virtualEnvironment(1, { start: 1_000_000 });
  /** The logged failures: for each its message and the code of the error. */
  const failures: string[] = [];
  const log: Logger = {
    ...silentLogger,
    warn: (fields, action) => 'code' in fields && failures.push(`${action} ${fields.code}`),
    child: () => log,
  };
  const environment: VirtualEnvironment = { clock, network, random, log };
  const toys = (given ?? SIGNERS.map((signer, i) => toyJob(signer, { rounds: { count: 20 + i } }))) as [
    ToyJob,
    ToyJob,
  ];
  const [first, second] = toys.map(
    (toy, i) => new ScriptedCoordinator({ toy, signer: SIGNERS[i]! }, environment),
  ) as [ScriptedCoordinator, ScriptedCoordinator];
  const node = new VirtualNode(
    {
      number: 1,
      coordinator: SIGNERS[0].peerId,
      layout: toys[0].layout,
      msPerStep: STEP_MS,
      ...(options && { options }),
      more: [{ addresses: [addressOf(SIGNERS[1].peerId)], ...more }],
    },
    environment,
  );
  const status = () => node.status();
  const states = () =>
    node.nodes.all.map((one) => {
      const { state, busyWith } = one.view();
      return reportedState(state.phase, busyWith);
    });
  const until = async (what: () => boolean) => expect(await clock.run(what, 120_000)).toBe(true);
  const pass = (ms: number) => clock.run(() => false, ms);
  const reasons = () => node.nodes.all.map((one) => one.view().state.reason);
  return { node, clock, toys, first, second, status, states, reasons, failures, until, pass };
}

test('a node trains for two coordinators, one round after the other', async () => {
  const { node, first, second, status, states, until } = setUp();
  await first.open(1, [node.peer]);
  node.start();
  await until(() => states()[0] === 'training');
  await second.open(1, [node.peer]);
  await until(() => states()[1] === 'busy');
  expect(status()).toMatchObject({
    state: 'training',
    job: { name: 'toy' },
    jobs: [{ state: 'training' }, { state: 'busy', reason: expect.stringContaining('toy') }],
  });
  await until(() => first.updates.length === 1);
  expect(second.updates).toEqual([]);
  await until(() => second.updates.length === 1);
  expect(second.states).toEqual(expect.arrayContaining(['busy', 'training']));
  await until(() => states().every((state) => state === 'awaiting'));
  const seconds = status().jobs.map(({ trainerSeconds }) => trainerSeconds);
  for (const spent of seconds) expect(spent).toBeGreaterThanOrEqual(4);
  expect(status().updates.map(({ code }) => code)).toEqual(['accepted', 'accepted']);
});

test('a coordinator that shuts the node out does not stop the other job; the last one ends the node', async () => {
  const { node, first, second, status, until, pass } = setUp();
  second.refusal = 'INVITE_REVOKED';
  second.admits = false;
  await first.open(1, [node.peer]);
  node.start();
  await until(() => first.updates.length === 1 && status().jobs[1]!.shutOut !== null);
  expect(status().jobs[1]).toMatchObject({ state: 'leaving', shutOut: { code: 'INVITE_REVOKED' } });
  expect(node.nodes.shutOut).toBeNull();
  await first.open(2, [node.peer]);
  await until(() => first.updates.length === 2);
  first.refusal = 'INVITE_USED';
  first.admits = false;
  first.host.disconnect(node.peer);
  await pass(5_000);
  expect(node.nodes.shutOut).toMatchObject({ values: { code: 'INVITE_USED' } });
});

test('an invite without a job does not join the job of another invite', async () => {
  const { node, first, status, failures, until, pass } = setUp({ addresses: [addressOf(SIGNERS[0].peerId)] });
  await first.open(1, [node.peer]);
  node.start();
  await until(() => first.updates.length === 1);
  await pass(30_000);
  expect(first.updates).toHaveLength(1);
  const states = status().jobs.map(({ state }) => state);
  expect(states.sort()).toEqual(['awaiting', 'joining']);
  expect(new Set(failures)).toEqual(new Set(['join-failed NO_OPEN_JOB']));
});

test('a round that its job no longer needs gives way, and the node trains the newer round', async () => {
  const { node, first, second, states, until } = setUp();
  await first.open(1, [node.peer]);
  node.start();
  await until(() => states()[0] === 'training');
  await second.open(1, [node.peer]);
  await until(() => states()[1] === 'busy');
  await second.open(2, [node.peer]);
  await until(() => second.updates.length === 1);
  expect(second.updates).toMatchObject([{ round: 2 }]);
  expect(first.updates).toMatchObject([{ round: 1 }]);
});

test('a coordinator that names the job of another coordinator does not lock the node out of that job', async () => {
  const { node, toys, first, second, reasons, until, pass } = setUp();
  first.admits = false;
  second.listed = toys[0].job;
  await first.open(1, [node.peer]);
  node.start();
  await until(() => second.joins > 0 && reasons()[1]!.includes(toys[0].job));
  first.admits = true;
  await until(() => first.updates.length === 1);
  // The second coordinator does not learn the speed that the node has in the job of the first.
  await pass(60_000);
  expect(first.speeds.at(-1)).toBe(0);
  expect(new Set(second.speeds)).toEqual(new Set([0]));
  // The second coordinator now offers another job, and the node takes it.
  second.listed = toys[1].job;
  await second.open(1, [node.peer]);
  await until(() => second.updates.length === 1);
});

test('a coordinator that signs the manifest of another coordinator does not take its job over', async () => {
  const toys = SIGNERS.map((signer) => toyJob(signer));
  expect(toys[1]!.job).toBe(toys[0]!.job);
  const { node, first, second, reasons, until } = setUp({}, { toys });
  second.admits = false;
  await first.open(1, [node.peer]);
  node.start();
  await until(() => first.updates.length === 1);
  second.admits = true;
  await second.open(1, [node.peer]);
  await until(() => reasons()[1]!.includes(SIGNERS[0].peerId));
  expect(node.store.job(toys[0]!.job).coordinator).toBe(SIGNERS[0].peerId);
  await first.open(2, [node.peer]);
  await until(() => first.updates.length === 2);
});

test('a job that exceeds the limits of the owner alone does not keep other jobs from fitting', async () => {
  const huge = { rounds: { localSteps: 10_000 }, training: { batchSize: 4096 } };
  const toys = [toyJob(SIGNERS[0]), toyJob(SIGNERS[1], huge)];
  const policy = { ...defaultPolicy, maxMemoryBytes: 2 ** 30 };
  const { node, first, second, status, until } = setUp({}, { toys, options: { policy } });
  first.admits = false;
  node.start();
  await until(() => second.holds.includes('memory'));
  first.admits = true;
  await first.open(1, [node.peer]);
  await until(() => first.updates.length === 1);
  expect(status().jobs.map(({ hold }) => hold?.reason ?? null)).toEqual([null, 'memory']);
});

test('a lowered limit ends the trainer of a job that no longer fits, and keeps the files of its base', async () => {
  const policy = { ...defaultPolicy };
  const { node, toys, first, until } = setUp({}, { options: { policy } });
  await first.open(1, [node.peer]);
  node.start();
  await until(() => first.updates.length === 1);
  const { released } = node.trainer;
  node.nodes.checkLimits();
  expect(released).toEqual([expect.arrayContaining([toys[0].manifest.base.digest])]);
  policy.maxMemoryBytes = 1;
  node.nodes.checkLimits();
  expect(released.slice(1)).toEqual([[]]);
  await until(() => first.holds.includes('memory'));
  policy.maxMemoryBytes = Number.POSITIVE_INFINITY;
  await until(() => node.swarmNode.view().hold === null);
  await first.open(2, [node.peer]);
  await until(() => first.updates.length === 2);
});

describe('a coordinator whose job names the blobs of another job', () => {
  test('cannot read them at the node, or have the node train on them, if it does not have them', async () => {
    const { node, toys, first, second, failures, until, pass } = setUp();
    first.admission = 'invite';
    await first.open(1, [node.peer]);
    node.start();
    await until(() => first.updates.length === 1);
    const { shards } = toys[1].manifest.data;
    expect(shards).toEqual(toys[0].manifest.data.shards);
    for (const { digest } of shards) second.disk.files.delete(digest);
    await second.open(1, [node.peer]);
    await until(() => failures.includes('train-failed BLOB_UNAVAILABLE'));
    expect(second.updates).toEqual([]);
    const { signal } = new AbortController();
    const [update] = first.updates;
    for (const { digest, size } of [...shards, ...toys[1].manifest.base.files, update!.payload]) {
      second.disk.files.delete(digest);
      const fetched = second.host.fetchBlob({ digest, size }, { holders: [node.peer], signal });
      const refused = expect(fetched).rejects.toEqual(withCode('BLOB_UNAVAILABLE'));
      await pass(100);
      await refused;
    }
  });

  test('cannot have the node take their adapter from its store', async () => {
    const { node, toys, first, second, states, pass, until } = setUp();
    first.admission = 'invite';
    await first.open(1, [node.peer]);
    node.start();
    await until(() => first.updates.length === 1);
    const { initial } = toys[1].manifest.adapter;
    expect(initial).toEqual(toys[0].manifest.adapter.initial);
    second.disk.files.delete(initial.digest);
    await second.open(1, [node.peer]);
    await pass(5_000);
    expect(states()[1]).toBe('syncing');
    const { signal } = new AbortController();
    const fetched = second.host.fetchBlob(initial, { holders: [node.peer], signal });
    const refused = expect(fetched).rejects.toEqual(withCode('BLOB_UNAVAILABLE'));
    await pass(100);
    await refused;
  });

  test('supplies them again, and then reads them at the node, except the base', async () => {
    const { node, toys, first, second, until, pass } = setUp();
    first.admission = 'invite';
    await first.open(1, [node.peer]);
    node.start();
    await until(() => first.updates.length === 1);
    await second.open(1, [node.peer]);
    await until(() => second.updates.length === 1);
    const { signal } = new AbortController();
    const { data, base } = toys[1].manifest;
    for (const [ref, isServed] of [
      ...data.shards.map((shard) => [shard, true] as const),
      [base.files[0]!, false] as const,
    ]) {
      second.disk.files.delete(ref.digest);
      const fetched = second.host.fetchBlob(ref, { holders: [node.peer], signal }).then(
        () => true,
        () => false,
      );
      await pass(100);
      expect(await fetched).toBe(isServed);
    }
  });
});

test('a job with long rounds lets a job with short rounds deliver in between', async () => {
  const rounds = { localSteps: 100, maxSeconds: 86_400 };
  const toys = [toyJob(SIGNERS[0], { rounds }), toyJob(SIGNERS[1])];
  const { node, first, second, states, clock, until } = setUp({}, { toys });
  const assignments = [{ peer: node.peer, start: 0, end: 96, steps: 100 }];
  await first.open(1, [node.peer], { assignments, deadlineMs: 86_400_000, issuedAt: clock.now() });
  node.start();
  await until(() => states()[0] === 'training');
  const openedAt = clock.now();
  await second.open(1, [node.peer], { deadlineMs: 90_000, issuedAt: openedAt });
  await until(() => second.updates.length === 1);
  expect(clock.now() - openedAt).toBeLessThan(90_000);
  expect(first.updates).toEqual([]);
  await until(() => first.updates.length === 1);
  expect(first.updates).toMatchObject([{ round: 1, steps: 100 }]);
});
