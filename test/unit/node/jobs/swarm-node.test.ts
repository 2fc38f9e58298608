import { beforeEach, describe, expect, test } from 'vitest';
import type { Logger } from '../../../../common/logger.ts';
import { decodeAdapter, encodeAdapter, maxAdapterBytes } from '../../../../lora/adapter/codec.ts';
import { ONE_TRAINER, type Trainers } from '../../../../lora/train/memory/trainers.ts';
import { decodeUpdate } from '../../../../lora/update/codec.ts';
import { applyDelta, ErrorFeedback, encodeDelta } from '../../../../lora/update/feedback.ts';
import { silentLogger } from '../../../../monitor/logs/log.ts';
import { NOT_YET_CONNECTED } from '../../../../monitor/node-state.ts';
import { defaultPolicy, demandOf } from '../../../../node/limits/policy.ts';
import { sha256 } from '../../../../protocol/cbor.ts';
import { jobTopic } from '../../../../protocol/job/topics.ts';
import { INLINE_UPDATE_BYTES } from '../../../../protocol/limits.ts';
import type { Head } from '../../../../protocol/messages.ts';
import { encryptedHead } from '../../../utils/swarm/job-keys.ts';
import { signerOf } from '../../../utils/swarm/signers.ts';
import { virtualEnvironment } from '../../../utils/virtual/environment.ts';
import { MemoryBlobs, MemoryDisk } from '../../../utils/virtual/memory-blobs.ts';
import { type ToyJobOptions, toyJob, toyLayout } from '../../../utils/virtual/toy-job.ts';
import { addressOf } from '../../../utils/virtual/virtual-network.ts';
import {
  type VirtualEnvironment,
  VirtualNode,
  type VirtualNodeOptions,
} from '../../../utils/virtual/virtual-node.ts';
import { COORDINATOR, ScriptedCoordinator } from '../scripted-coordinator.ts';

const STEP_MS = 100;
const LONG_MS = 120_000;

/** Sets up one node and a scripted coordinator on a virtual network. */
function setUp(toyOptions: ToyJobOptions = {}, nodeOptions: Partial<VirtualNodeOptions> = {}) {
  const { clock, network, random } = virtualEnvironment(1, { start: 1_000_000 });
  const infos: { action: string; fields: object }[] = [];
  const failures: { action: string; code: unknown }[] = [];
  const logger = (own: object): Logger => ({
    ...silentLogger,
    info: (fields, action) => infos.push({ fields: { ...own, ...fields }, action }),
    warn: (fields, action) => failures.push({ action, code: 'code' in fields ? fields.code : null }),
    child: (fields) => logger({ ...own, ...fields }),
  });
  const log = logger({});
  const environment: VirtualEnvironment = { clock, network, random, log };
  const toy = toyJob(COORDINATOR, toyOptions);
  const coordinator = new ScriptedCoordinator({ toy }, environment);
  const node = new VirtualNode(
    { number: 1, coordinator: COORDINATOR.peerId, layout: toy.layout, msPerStep: STEP_MS, ...nodeOptions },
    environment,
  );
  const phase = () => node.swarmNode.view().state.phase;
  return {
    ...environment,
    toy,
    coordinator,
    node,
    phase,
    /** Returns the error codes of a logged failure. */
    codes: (action: string) => failures.filter((one) => one.action === action).map(({ code }) => code),
    /** Returns the fields of the log lines with a message. */
    infos: (action: string) => infos.filter((one) => one.action === action).map(({ fields }) => fields),
    /** Runs until `what` returns true, or fails after `ms` of virtual time. */
    until: async (what: () => boolean, ms = LONG_MS) => expect(await clock.run(what, ms)).toBe(true),
    pass: (ms: number) => clock.run(() => false, ms),
    feedback: async () => {
      const { feedback } = node.store.job(toy.job);
      const bytes = feedback && node.disk.files.get(feedback);
      return bytes ? ErrorFeedback.decode(bytes, { layout: toy.layout, decay: 0.5 }).residual : null;
    },
  };
}

let at: ReturnType<typeof setUp>;
beforeEach(() => {
  at = setUp();
});

/** Returns a checkpoint that a delta makes from the initial adapter. */
function nextCheckpoint(
  change: number,
): Head['checkpoint'] & { adapterBytes: Uint8Array; deltaBytes: Uint8Array } {
  const { toy, coordinator } = at;
  const tensors = decodeAdapter(toy.initial, toy.layout);
  const delta = tensors.map((values) => values.map((_, i) => change * (1 + (i % 3))));
  const { bytes } = encodeDelta(new ErrorFeedback({ layout: toy.layout, decay: 1 }), delta, 1);
  const after = encodeAdapter(toy.layout, applyDelta(toy.layout, tensors, bytes), toy.manifest.base.digest);
  const parent = coordinator.head!.checkpoint.digest;
  return {
    digest: sha256(Buffer.from('checkpoint 1')),
    round: 1,
    ordinal: 1,
    adapter: { digest: sha256(after), size: after.byteLength },
    delta: { parent, digest: sha256(bytes), size: bytes.byteLength },
    heldOutLoss: 1,
    adapterBytes: after,
    deltaBytes: bytes,
  };
}

function headCheckpoint({
  adapterBytes: _a,
  deltaBytes: _d,
  ...checkpoint
}: ReturnType<typeof nextCheckpoint>) {
  return checkpoint;
}

test('a node that has lost its database does not train a round again for which the coordinator has its update', async () => {
  const { node, coordinator, codes } = at;
  await coordinator.open(3, [node.peer]);
  coordinator.delivered = 3;
  node.start();
  await at.until(() => coordinator.idle.includes(3));
  await at.pass(10 * STEP_MS);
  expect(coordinator.updates).toEqual([]);
  expect(codes('update-forgotten')).toHaveLength(1);
  await coordinator.open(4, [node.peer]);
  await at.until(() => coordinator.updates.length === 1);
  expect(coordinator.updates).toMatchObject([{ round: 4 }]);
});

test('the heartbeats of a node name the newest head that it knows, also if another copy of its coordinator signed it', async () => {
  const { node, coordinator } = at;
  await coordinator.open(1, []);
  node.start();
  await at.until(() => coordinator.known?.sequence === 1);
  await coordinator.open(2, [], { term: 2 });
  await at.until(() => coordinator.known?.term === 2);
  expect(coordinator.known).toEqual({ term: 2, sequence: 2 });
});

test('a node computes scores for its coordinator only, and only if it offers this', async () => {
  const { node, coordinator, network, clock, random, phase } = at;
  await coordinator.open(1, []);
  node.start();
  await at.until(() => coordinator.joins > 0 && phase() === 'awaiting');
  const { digest: parent, adapter } = coordinator.head!.checkpoint;
  const batches = [{ round: 1, positions: [0, 1] }];
  const request = {
    job: at.toy.job,
    parent,
    adapter: adapter.digest,
    what: 'losses',
    batches,
    update: null,
  } as const;
  const isAlive = (): boolean => true;
  const blobs = new MemoryBlobs({ disk: new MemoryDisk(), clock, random, isAlive });
  const stranger = network.host({ signer: signerOf(77), blobs, isAlive });
  const { signal } = new AbortController();
  for (const host of [stranger, coordinator.host]) {
    const connecting = host.connect(addressOf(node.peer), { signal });
    await at.pass(100);
    await connecting;
    const asking = host.request(node.peer, 'measure', { ...request, batches: [...batches] }, { signal });
    const answer = asking.catch((error: unknown) => error);
    await at.pass(1_000);
    expect(await answer).toMatchObject({ values: { code: 'NOT_SCORING' } });
  }
});

test('a node that waits for round 1 to begin does not announce round 1 as done', async () => {
  const { node, coordinator } = at;
  await coordinator.open(1, [], { phase: 'waiting' });
  node.start();
  await at.until(() => coordinator.idle.length > 2);
  expect(new Set(coordinator.idle)).toEqual(new Set([0]));
  await coordinator.open(1, [node.peer]);
  await at.until(() => coordinator.updates.length === 1 && coordinator.idle.includes(1));
});

describe('a head under a key that the node does not have', () => {
  test('makes it ask for the key and the head, and read later heads at once', async () => {
    const { node, coordinator } = at;
    await coordinator.open(1, [], { phase: 'waiting' });
    node.start();
    await at.until(() => at.phase() === 'awaiting');
    let asked = 0;
    coordinator.onHead = () => asked++;
    coordinator.keyId = 2;
    await coordinator.open(1, [node.peer]);
    await at.until(() => at.phase() === 'training', 2_000);
    expect(asked).toBe(1);
    await coordinator.open(2, [node.peer]);
    await at.until(() => node.swarmNode.view().state.head?.round === 2, 2_000);
    expect(asked).toBe(1);
  });

  test('is asked for once, however many arrive, and an outdated one is ignored', async () => {
    const { node, coordinator, toy } = at;
    coordinator.keyId = 2;
    await coordinator.open(1, [], { phase: 'waiting' });
    node.start();
    await at.until(() => at.phase() === 'awaiting');
    let asked = 0;
    coordinator.onHead = () => asked++;
    const publish = (id: number) =>
      coordinator.host.publish(jobTopic(toy.job, 'heads'), encryptedHead(Uint8Array.of(1), toy.job, id));
    for (let i = 0; i < 20; i++) await publish(1);
    await at.pass(1_000);
    expect(asked).toBe(0);
    for (let i = 0; i < 20; i++) await publish(9);
    await at.pass(1_000);
    expect(asked).toBe(1);
  });

  test('is asked for after the coordinator has lost its keys', async () => {
    const { node, coordinator, toy } = at;
    await coordinator.open(1, [], { phase: 'waiting' });
    node.start();
    await at.until(() => at.phase() === 'awaiting');
    let asked = 0;
    coordinator.onHead = () => asked++;
    const damaged = encryptedHead(Uint8Array.of(1), toy.job).fill(0, 4);
    await coordinator.host.publish(jobTopic(toy.job, 'heads'), damaged);
    await at.pass(1_000);
    expect(asked).toBe(1);
    expect(at.codes('head-unreadable')).toEqual(['HEAD_UNREADABLE']);
  });
});

test('joins, trains its rows and delivers one update that describes its work', async () => {
  const { node, coordinator, toy } = at;
  await coordinator.open(1, [node.peer]);
  node.start();
  await at.until(() => coordinator.updates.length === 1 && at.phase() === 'awaiting');
  const [update] = coordinator.updates;
  expect(update).toMatchObject({ job: toy.job, round: 1, start: 0, end: 96, steps: 4, tokens: 4 * 4 * 8 });
  expect(sha256(update!.inline!)).toBe(update!.payload.digest);
  const { tensors } = decodeUpdate(update!.inline!, toy.layout, 'dense');
  // The adapter came down from 0.5, so before − after is positive.
  expect(Math.min(...tensors.flatMap(({ values }) => [...values]))).toBeGreaterThan(0);
  await at.pass(3000);
  expect(coordinator.states).toEqual(expect.arrayContaining(['training', 'awaiting']));
  expect(coordinator.updates).toHaveLength(1);
});

test('asks after each checkpoint what it has contributed, and keeps the answer', async () => {
  const { node, coordinator, toy } = at;
  const asked: string[] = [];
  const contribution = { round: 1, place: 3, contributors: 12, tokens: 140, totalTokens: 1000 };
  coordinator.host.handle('contribution', async (peer) => {
    asked.push(peer);
    return { contribution: asked.length === 1 ? null : contribution };
  });
  await coordinator.open(1, [node.peer]);
  node.start();
  await at.until(() => coordinator.updates.length === 1);
  // Before its first update, the node has contributed nothing.
  expect(asked).toEqual([]);
  const { checkpoint } = coordinator.head!;
  for (const round of [2, 3]) {
    const digest = sha256(Buffer.from(`checkpoint ${round}`));
    await coordinator.open(round, [], { checkpoint: { ...checkpoint, round: round - 1, digest } });
    await at.until(() => asked.length === round - 1);
  }
  await at.until(() => node.store.totals.jobs()[0]?.contribution !== null);
  expect(node.store.totals.jobs()).toMatchObject([{ job: toy.job, contribution }]);
  expect(asked).toEqual([node.peer, node.peer]);
});

test('logs and shows the reason that a head gives, while the job is paused and while it trains', async () => {
  const { node, coordinator } = at;
  await coordinator.open(1, [], { phase: 'waiting', reason: 'the job needs 2 nodes' });
  node.start();
  await at.until(() => at.phase() === 'awaiting');
  await coordinator.open(1, [], { phase: 'paused', reason: 'lunch' });
  await at.until(() => node.status().job?.reason === 'lunch');
  const reason = 'goes on from the checkpoint of round 0 (it repeats itself)';
  await coordinator.open(2, [node.peer], { reason });
  await at.until(() => node.status().job?.reason === reason);
  const { job } = at.toy;
  expect(at.infos('head-reason')).toMatchObject([
    { job, phase: 'waiting', round: 1, reason: 'the job needs 2 nodes' },
    { job, phase: 'paused', round: 1, reason: 'lunch' },
    { job, phase: 'training', round: 2, reason },
  ]);
  await at.until(() => at.infos('round-trained').length > 0);
  expect(at.infos('round-trained')).toMatchObject([{ job, round: 2 }]);
});

test('waits for a coordinator that is not reachable yet, and for admission', async () => {
  const { node, coordinator, network } = at;
  const heal = network.isolate(COORDINATOR.peerId);
  coordinator.admits = false;
  node.start();
  await at.pass(60_000);
  heal();
  await at.until(() => coordinator.joins > 2);
  expect(at.phase()).toBe('joining');
  expect(at.codes('join-failed')).toContain('RPC_REFUSED');
  coordinator.admits = true;
  await coordinator.open(1, [node.peer]);
  await at.until(() => coordinator.updates.length === 1);
});

test('fetches the base without the reason for which it could not join before', async () => {
  const { node, coordinator, network, toy } = at;
  const heal = network.isolate(COORDINATOR.peerId);
  node.start();
  const view = () => node.swarmNode.view();
  await at.until(() => at.codes('join-failed').length > 0);
  const { reason } = view().state;
  heal();
  coordinator.admits = false;
  coordinator.refusal = 'CLOCK_OFF';
  await at.until(() => view().hold?.reason === 'clock');
  coordinator.admits = true;
  for (const { digest } of toy.manifest.base.files) coordinator.disk.files.delete(digest);
  await at.until(() => view().context !== null);
  expect(view()).toMatchObject({ hold: null, state: { phase: 'joining', reason: NOT_YET_CONNECTED } });
  expect(reason).not.toBe(NOT_YET_CONNECTED);
});

test('logs and shows a round that ended before it had finished it', async () => {
  const { node, coordinator, toy } = at;
  await coordinator.open(1, [node.peer]);
  node.start();
  await at.until(() => at.phase() === 'training');
  await coordinator.open(2, [node.peer]);
  await at.until(() => at.infos('round-trained').length > 0);
  expect(at.infos('round-missed')).toMatchObject([{ job: toy.job, round: 1 }]);
  expect(node.status().missedRound).toBe(1);
});

test('says that it is an observer, and waits without work', async () => {
  const { node, coordinator } = at;
  coordinator.role = 'observer';
  node.start();
  await coordinator.open(1, []);
  await at.until(() => at.phase() === 'awaiting');
  const waiting = { reason: expect.stringContaining('observer'), job: { role: 'observer' } };
  expect(node.status()).toMatchObject(waiting);
});

test('learns its standing after a harmful update, and says that it is suspended', async () => {
  const { node, coordinator } = at;
  await coordinator.open(1, [node.peer]);
  node.start();
  await at.until(() => node.store.updates(9)[0]?.code === 'accepted');
  expect(node.swarmNode.view().standing).toEqual({ kind: 'good', untilRound: null, strikes: 0 });
  coordinator.standing = { kind: 'suspended', untilRound: 5, strikes: 3 };
  coordinator.code = 'harmful';
  await coordinator.open(2, [node.peer]);
  await at.until(() => node.swarmNode.view().standing?.kind === 'suspended');
  await coordinator.open(3, []);
  await at.until(() => at.phase() === 'awaiting' && node.status().round === 3);
  expect(node.status()).toMatchObject({
    standing: { kind: 'suspended', strikes: 3 },
    reason: expect.stringMatching(/\bsuspended\b.*\bround 5\b.*3 strikes/),
  });
});

test('stops for good when the coordinator has shut it out, and says why', async () => {
  const { node, coordinator } = at;
  coordinator.refusal = 'INVITE_USED';
  coordinator.admits = false;
  node.start();
  await at.until(() => at.phase() === 'leaving');
  await at.pass(300_000);
  expect(coordinator.joins).toBe(1);
  expect(coordinator.left).toEqual([]);
  expect(node.swarmNode.view().shutOut).toMatchObject({
    code: 'RPC_REFUSED',
    values: { code: 'INVITE_USED' },
  });
  expect(node.swarmNode.view().state.reason).toContain('not you');
});

test.each([
  ['BANNED', 1],
  ['INVITE_REVOKED', 0],
] as const)(
  'after the refusal %s, the home keeps %i invites, because only a ban may end',
  async (refusal, kept) => {
    const { node, coordinator } = at;
    node.start();
    await coordinator.open(1, [node.peer]);
    await at.until(() => at.phase() === 'training');
    expect(node.known.size).toBe(1);
    coordinator.refusal = refusal;
    coordinator.admits = false;
    coordinator.host.disconnect(node.peer);
    await at.until(() => node.swarmNode.view().shutOut !== null);
    expect(node.known.size).toBe(kept);
  },
);

test('abandons its work when its invite is revoked during a round', async () => {
  const { node, coordinator } = at;
  node.start();
  await coordinator.open(1, [node.peer]);
  await at.until(() => at.phase() === 'training');
  coordinator.refusal = 'INVITE_REVOKED';
  coordinator.admits = false;
  const beats = coordinator.states.length;
  // The coordinator closes the connection. The node connects again, joins, and gets the refusal as the answer.
  coordinator.host.disconnect(node.peer);
  await at.until(() => node.swarmNode.view().shutOut !== null);
  const { joins } = coordinator;
  await at.pass(300_000);
  expect(at.phase()).toBe('leaving');
  expect(coordinator.joins).toBe(joins);
  expect(coordinator.updates).toEqual([]);
  expect(coordinator.states.slice(beats + 1)).toEqual([]);
});

test('tells the coordinator about a pause, trains nothing while it lasts, and trains the next round after it', async () => {
  const { node, coordinator } = at;
  node.start();
  await coordinator.open(1, [node.peer]);
  await at.until(() => at.phase() === 'training');
  node.pauses.set({ reason: 'paused', text: 'paused by its owner', until: null });
  await at.until(() => coordinator.holds.includes('paused'));
  expect(node.swarmNode.view().hold).toEqual({ reason: 'paused', detail: '' });
  await coordinator.open(2, [node.peer]);
  await at.pass(60_000);
  // The round that was in progress is over, and round 2 has not begun.
  expect(coordinator.updates.map(({ round }) => round)).not.toContain(2);
  expect(node.swarmNode.work.isTraining).toBe(false);
  node.pauses.set(null);
  await at.until(() => coordinator.updates.some(({ round }) => round === 2));
  expect(node.swarmNode.view().hold).toBeNull();
});

test('refuses a job that needs more than the owner lends, and fetches nothing', async () => {
  at = setUp({}, { options: { policy: { maxBaseBytes: 5, maxDiskBytes: 1e9, maxMemoryBytes: 1e9 } } });
  at.node.start();
  await at.until(() => at.coordinator.joins === 2);
  expect(at.codes('join-failed')[0]).toBe('POLICY_BASE');
  expect(at.node.swarmNode.view().state.reason).toContain('--max-base');
  // The node also takes a hold with this reason, which the operator sees.
  expect(at.node.swarmNode.view().hold).toMatchObject({
    reason: 'base',
    detail: expect.stringContaining('GiB'),
  });
  await at.until(() => at.coordinator.holds.includes('base'));
  expect(at.node.disk.files.size).toBe(0);
});

test('stops training when the owner lends less than the job needs, and goes on when the owner lends more', async () => {
  const policy = { ...defaultPolicy };
  at = setUp({}, { options: { policy } });
  const { node, coordinator } = at;
  await coordinator.open(1, [node.peer]);
  node.start();
  await at.until(() => at.phase() === 'training');
  policy.maxDiskBytes = demandOf(at.toy.manifest).disk;
  node.swarmNode.checkLimits();
  expect(at.phase()).toBe('training');
  policy.maxDiskBytes--;
  node.swarmNode.checkLimits();
  expect(at.phase()).toBe('joining');
  await at.until(() => coordinator.holds.includes('disk'));
  expect(at.codes('join-failed')[0]).toBe('POLICY_DISK');
  expect(node.swarmNode.view().state.reason).toContain('--max-disk');
  expect(node.swarmNode.work.isTraining).toBe(false);
  expect(coordinator.updates).toEqual([]);
  // After some failures, the next attempt is far away. The node must not wait for it.
  await at.pass(120_000);
  policy.maxDiskBytes++;
  node.swarmNode.checkLimits();
  await at.pass(1000);
  expect(node.swarmNode.view().hold).toBeNull();
  await at.until(() => coordinator.updates.length === 1);
});

test('accepts a job with 4 base bits that needs too much memory with 32', async () => {
  const four = { ...ONE_TRAINER, baseBits: 4 } as const;
  const policy = { ...defaultPolicy, maxMemoryBytes: demandOf(at.toy.manifest, four).memory };
  const lending = (trainers: Trainers) => setUp({}, { options: { policy, trainers } });
  at = lending(ONE_TRAINER);
  at.node.start();
  await at.until(() => at.coordinator.joins === 2);
  expect(at.node.swarmNode.view().state.reason).toContain('--base-bits 4');
  expect(at.node.disk.files.size).toBe(0);

  at = lending(four);
  await at.coordinator.open(1, [at.node.peer]);
  at.node.start();
  await at.until(() => at.coordinator.updates.length === 1);
});

test('refuses a job whose base digest does not match its files, and fetches nothing', async () => {
  at = setUp({ base: 'ab'.repeat(32) });
  at.node.start();
  await at.until(() => at.coordinator.joins === 2);
  expect(at.phase()).toBe('joining');
  expect(at.codes('join-failed')[0]).toBe('BASE_DIGEST');
  expect(at.node.disk.files.size).toBe(0);
});

test('looks for the next job again and again after its job has ended', async () => {
  const { node, coordinator, toy } = at;
  let asked = 0;
  coordinator.host.handle('jobs', async () => {
    asked++;
    return { jobs: [{ job: toy.job, name: 'toy', phase: coordinator.head!.phase }], others: false };
  });
  await coordinator.open(1, [node.peer]);
  node.start();
  await at.until(() => coordinator.updates.length === 1);
  await coordinator.open(1, [], { phase: 'finished' });
  await at.until(() => node.done);
  asked = 0;
  // The node also asks for the newest head every ten seconds.
  await at.pass(45_000);
  expect(asked).toBeGreaterThanOrEqual(3);
});

test('a node that starts again after the end of its job says so, and no longer names that job', async () => {
  at = setUp({}, { options: { knownName: 'toy' } });
  const { node, coordinator } = at;
  await coordinator.open(1, [], { phase: 'finished' });
  node.start();
  await at.until(() => at.codes('join-failed').length > 0);
  expect(at.codes('join-failed')[0]).toBe('NO_OPEN_JOB');
  const { jobName, state } = node.swarmNode.view();
  expect(jobName).toBeNull();
  expect(state.reason).toContain('toy');
});

test('a node whose job is not open yet still names it', async () => {
  at = setUp({}, { options: { knownName: 'toy' } });
  const { node, coordinator } = at;
  coordinator.host.handle('jobs', async () => ({ jobs: [], others: true }));
  node.start();
  await at.until(() => at.codes('join-failed').length > 0);
  expect(node.swarmNode.view().jobName).toBe('toy');
});

test('deletes the files that only the previous job needed when it turns to another job', async () => {
  const { node, coordinator, toy, network } = at;
  await coordinator.open(1, [node.peer]);
  node.start();
  await at.until(() => coordinator.updates.length === 1);
  await coordinator.open(1, [], { phase: 'finished' });
  await at.until(() => node.done);
  // The invite names no job, so it is kept for the next job of the coordinator.
  expect([...node.known]).toEqual([toy.manifest.name]);
  // The files stay after the end of the job, because the next job may have the same base.
  for (const bytes of toy.blobs) expect(node.disk.files.has(sha256(bytes))).toBe(true);

  node.crash();
  network.down(COORDINATOR.peerId);
  const next = toyJob(COORDINATOR, { rows: 128 });
  const successor = new ScriptedCoordinator({ toy: next }, at);
  await successor.open(1, [node.peer]);
  node.start();
  await at.until(() => successor.updates.length === 1);
  await at.pass(100);
  const needed = new Set(next.blobs.map((bytes) => sha256(bytes)));
  const own = node.store.job(next.job);
  for (const digest of [own.feedback!, own.optimizer!, own.adapter!]) needed.add(digest);
  needed.add(successor.updates[0]!.payload.digest);
  for (const digest of node.disk.files.keys()) expect(needed, 'what is kept is needed').toContain(digest);
  expect(toy.blobs.filter((bytes) => needed.has(sha256(bytes))).length).toBeGreaterThan(1);
  expect(toy.blobs.some((bytes) => !node.disk.files.has(sha256(bytes)))).toBe(true);
});

describe('restarts', () => {
  test('trains the round again after a restart during training', async () => {
    const { node, coordinator } = at;
    await coordinator.open(1, [node.peer]);
    node.start();
    await at.until(() => node.swarmNode.view().progress.step === 2);
    node.crash();
    node.start();
    await at.until(() => coordinator.updates.length === 1);
    expect(node.store.history(at.toy.job).lastRound).toBe(1);
  });

  test('sends a stored update again after a restart, and trains nothing', async () => {
    const { node, coordinator, toy } = at;
    coordinator.code = null;
    await coordinator.open(1, [node.peer]);
    node.start();
    await at.until(() => node.store.updates(9).length === 1);
    const { update } = node.store.updates(9)[0]!;
    const before = await at.feedback();
    node.crash();
    await at.pass(50);
    coordinator.code = 'accepted';
    node.start();
    await at.until(() => node.store.updates(9)[0]!.code === 'accepted');
    expect(new Set(coordinator.updates.map(({ payload }) => payload.digest))).toEqual(new Set([update]));
    expect(node.trainer.trained).toBe(0);
    expect(await at.feedback()).toEqual(before);
    expect(node.store.job(toy.job).feedbackRound).toBe(1);
  });

  test('continues from the moments of the last update', async () => {
    const { node, coordinator, toy } = at;
    const twice = setUp();
    for (const one of [at, twice]) {
      await one.coordinator.open(1, [one.node.peer]);
      one.node.start();
      await one.until(() => one.coordinator.updates.length === 1 && one.phase() === 'awaiting');
    }
    node.crash();
    node.start();
    for (const one of [at, twice]) {
      await one.until(() => one.phase() === 'awaiting' && one.coordinator.joins > 0);
      await one.coordinator.open(2, [one.node.peer]);
      await one.until(() => one.coordinator.updates.at(-1)!.round === 2);
      await one.pass(1000);
    }
    const state = (w: typeof at) => w.node.store.job(toy.job);
    expect(state(at).optimizer).toBe(state(twice).optimizer);
    expect(state(at).feedback).toBe(state(twice).feedback);
    expect(coordinator.updates.at(-1)!.payload).toEqual(twice.coordinator.updates.at(-1)!.payload);
  });
});

describe('receipts', () => {
  test('a refused update goes back into the error feedback, and its blob is deleted', async () => {
    const { node, coordinator } = at;
    coordinator.code = 'wrong-parent';
    await coordinator.open(1, [node.peer]);
    node.start();
    await at.until(() => node.store.updates(9)[0]?.outcome === 'restored');
    await at.pass(1000);
    const [update] = coordinator.updates;
    expect(node.disk.files.has(update!.payload.digest)).toBe(false);
    const residual = await at.feedback();
    // In round 1, the error feedback contains nothing but this update.
    const { tensors } = decodeUpdate(update!.inline!, at.toy.layout, 'dense');
    for (const [i, { values }] of tensors.entries()) {
      for (const [j, value] of values.entries()) expect(residual![i]![j]! / value).toBeCloseTo(1, 0);
    }
  });

  test('an update left out after it was accepted is restored with the next head', async () => {
    const { node, coordinator } = at;
    await coordinator.open(1, [node.peer]);
    node.start();
    await at.until(() => node.store.updates(9)[0]?.code === 'accepted');
    coordinator.judge(coordinator.updates[0]!.payload.digest, 'left-out');
    await coordinator.open(2, [node.peer]);
    await at.until(() => node.store.updates(9).some(({ outcome }) => outcome === 'restored'));
    await at.until(() => coordinator.updates.some(({ round }) => round === 2));
  });

  test('an update that gossip did not deliver is submitted by request', async () => {
    const { node, coordinator, network } = at;
    await coordinator.open(1, [node.peer]);
    node.start();
    await at.until(() => node.swarmNode.view().progress.step === 3);
    const heal = network.isolate(node.peer);
    await at.until(() => node.store.updates(9).length === 1);
    await at.pass(20_000);
    expect(coordinator.updates).toHaveLength(0);
    heal();
    await at.until(() => node.store.updates(9)[0]!.code === 'accepted');
  });
});

test('error feedback conserves the pseudo-gradients: each is with the coordinator or still to be sent', async () => {
  at = setUp({ rounds: { errorFeedbackDecay: 1 } });
  const { node, coordinator, toy } = at;
  node.start();
  const sums = () => toy.layout.map(({ shape }) => new Float64Array(shape[0] * shape[1]));
  const add = (to: Float64Array[], from: readonly Float32Array[]) => {
    for (const [t, tensor] of from.entries()) for (const [i, value] of tensor.entries()) to[t]![i]! += value;
  };
  const learned = sums();
  const fates = [
    'accepted',
    'wrong-parent',
    'left-out',
    'accepted',
    'null-round',
    'crash',
    'accepted',
  ] as const;
  for (const [i, fate] of fates.entries()) {
    const round = i + 1;
    coordinator.code = fate === 'wrong-parent' ? fate : 'accepted';
    const before = coordinator.updates.filter(({ inline }) => inline);
    const accepted = before.filter((_, u) => fates[u] === 'accepted').map(({ payload }) => payload.digest);
    const included = accepted.map((update) => ({ peer: node.peer, update }));
    await coordinator.open(round, [node.peer], { included, preset: 'tiny' });
    await at.until(() => node.store.history(toy.job).lastRound === round);
    add(learned, node.trainer.lastChange);
    if (fate === 'crash') {
      node.crash();
      node.start();
    }
    await at.until(() => coordinator.updates.at(-1)?.round === round && at.phase() === 'awaiting');
    const { digest } = coordinator.updates.at(-1)!.payload;
    if (fate === 'left-out' || fate === 'null-round') coordinator.judge(digest, fate);
  }
  const last = coordinator.updates.length;
  await coordinator.open(fates.length + 1, []);
  await at.until(() => node.store.updates(99).every(({ outcome }) => outcome !== null));
  expect(coordinator.updates).toHaveLength(last);

  const found = sums();
  add(found, (await at.feedback())!);
  for (const { round, outcome } of node.store.updates(99)) {
    if (outcome !== 'counted') continue;
    const { inline, preset } = coordinator.updates.find((update) => update.round === round)!;
    for (const [t, { indices, values }] of decodeUpdate(inline!, toy.layout, preset).tensors.entries()) {
      for (const [v, value] of values.entries()) found[t]![indices?.[v] ?? v]! += value;
    }
  }
  for (const [t, tensor] of learned.entries()) {
    for (const [i, value] of tensor.entries()) expect(found[t]![i]).toBeCloseTo(value, 4);
  }
  const outcomes = node.store.updates(99).map(({ outcome }) => outcome);
  expect(outcomes.filter((outcome) => outcome === 'restored')).toHaveLength(3);
});

test('a dead trainer costs its round, and the next one is trained', async () => {
  at = setUp({}, { deaths: 1 });
  const { node, coordinator } = at;
  await coordinator.open(1, [node.peer]);
  node.start();
  await at.until(() => at.phase() === 'awaiting');
  expect(at.codes('train-failed')).toEqual(['TRAINER_DIED']);
  expect(node.swarmNode.view().state.lastRound).toBe(1);
  expect(node.store.updates(9)).toHaveLength(0);
  const joined = coordinator.joins;
  await coordinator.open(2, [node.peer]);
  await at.until(() => at.phase() === 'training');
  expect(coordinator.joins).toBe(joined);
});

test('refuses a head that asks for more steps than the manifest allows', async () => {
  const { node, coordinator, toy } = at;
  const steps = 2 ** 40;
  await coordinator.open(1, [], {
    assignments: [{ peer: node.peer, start: 0, end: toy.manifest.data.rows, steps }],
  });
  node.start();
  await at.until(() => at.phase() === 'awaiting' && at.node.swarmNode.view().state.lastRound === 1);
  expect(at.codes('train-failed')).toEqual(['WORK_TOO_LARGE']);
  await coordinator.open(2, [node.peer]);
  await at.until(() => coordinator.updates.length === 1);
});

test('an update too large for gossip is announced, and its blob can be fetched', async () => {
  at = setUp({ layout: toyLayout(150_000) });
  const { node, coordinator } = at;
  await coordinator.open(1, [node.peer]);
  node.start();
  await at.until(() => coordinator.updates.length === 1);
  const { inline, payload } = coordinator.updates[0]!;
  expect(inline).toBeNull();
  expect(payload.size).toBeGreaterThan(INLINE_UPDATE_BYTES);
  expect(sha256(node.disk.files.get(payload.digest)!)).toBe(payload.digest);
});

describe('adapters', () => {
  const started = async () => {
    const { node, coordinator } = at;
    await coordinator.open(1, [node.peer]);
    node.start();
    await at.until(() => at.phase() === 'awaiting');
  };

  test('a node that holds the parent fetches only the delta', async () => {
    await started();
    const { node, coordinator } = at;
    const next = nextCheckpoint(0.01);
    coordinator.disk.files.set(next.delta!.digest, next.deltaBytes);
    await coordinator.open(2, [node.peer], { checkpoint: headCheckpoint(next) });
    await at.until(() => coordinator.updates.some(({ round }) => round === 2));
    expect(node.disk.files.has(next.adapter.digest)).toBe(true);
    await at.pass(1000);
    // The previous adapter and the delta are no longer needed.
    expect(node.disk.files.has(at.toy.manifest.adapter.initial.digest)).toBe(false);
    expect(node.disk.files.has(next.delta!.digest)).toBe(false);
  });

  test('fetches the whole adapter when the delta leads to another digest', async () => {
    await started();
    const { node, coordinator } = at;
    const next = nextCheckpoint(0.01);
    const other = nextCheckpoint(0.02);
    coordinator.disk.files.set(other.delta!.digest, other.deltaBytes);
    coordinator.disk.files.set(next.adapter.digest, next.adapterBytes);
    await coordinator.open(2, [node.peer], { checkpoint: { ...headCheckpoint(next), delta: other.delta } });
    await at.until(() => coordinator.updates.some(({ round }) => round === 2));
    expect(sha256(node.disk.files.get(next.adapter.digest)!)).toBe(next.adapter.digest);
  });

  test('does not fetch an adapter larger than the job can have', async () => {
    const { node, coordinator, toy } = at;
    await coordinator.open(1, [node.peer]);
    const { checkpoint } = coordinator.head!;
    const adapter = { digest: 'ab'.repeat(32), size: maxAdapterBytes(toy.layout) + 1 };
    await coordinator.open(1, [node.peer], { checkpoint: { ...checkpoint, adapter } });
    node.start();
    await at.until(() => node.swarmNode.view().state.failures > 1);
    expect(new Set(at.codes('sync-failed'))).toEqual(new Set(['ADAPTER_TOO_LARGE']));
  });

  test('trains nothing without an adapter of the right digest', async () => {
    await started();
    const { node, coordinator } = at;
    const next = nextCheckpoint(0.01);
    await coordinator.open(2, [node.peer], { checkpoint: headCheckpoint(next) });
    await at.pass(60_000);
    expect(at.phase()).toBe('syncing');
    coordinator.disk.files.set(next.adapter.digest, next.adapterBytes);
    await at.until(() => coordinator.updates.some(({ round }) => round === 2));
  });
});

test('stopping during a round leaves the job in time, and keeps no blob that is not needed', async () => {
  const { node, coordinator, clock } = at;
  await coordinator.open(1, [node.peer]);
  node.start();
  await at.until(() => node.swarmNode.view().progress.step === 2);
  const before = clock.now();
  let stopped = false;
  node.swarmNode.stop({ deadlineMs: 5000 }).then(() => {
    stopped = true;
  });
  await at.until(() => stopped);
  expect(clock.now() - before).toBeLessThan(1000);
  expect(coordinator.left).toEqual([node.peer]);
  expect(coordinator.updates).toHaveLength(0);
  await at.pass(10_000);
  const needed = at.toy.blobs.map((bytes) => sha256(bytes));
  expect(needed).toEqual(expect.arrayContaining([...node.disk.files.keys()]));
});

test('stopping ends within its deadline when no peer answers', async () => {
  const { node, coordinator, clock, network } = at;
  await coordinator.open(1, [node.peer]);
  node.start();
  await at.until(() => at.phase() === 'training');
  network.isolate(node.peer);
  network.weather.loss = 1;
  const before = clock.now();
  let stopped = false;
  node.swarmNode.stop({ deadlineMs: 3000 }).then(() => {
    stopped = true;
  });
  await at.until(() => stopped);
  expect(clock.now() - before).toBeLessThanOrEqual(3000);
});

describe('settings that the operator changed', () => {
  const values = { learningRate: 0.01, count: 9, minPeers: 1, maxSeconds: 30 };

  test('a node trains with the settings of a head after it has verified the signed change', async () => {
    const { node, coordinator } = at;
    await coordinator.open(1, [], { phase: 'waiting' });
    node.start();
    await at.until(() => at.phase() === 'awaiting');
    const record = coordinator.changeSettings({ term: 1, sequence: 1, previous: null, fromRound: 1, values });
    await coordinator.open(1, [node.peer], { settings: { record, values } });
    await at.until(() => coordinator.updates.length === 1);
  });

  test('a node shows and logs the changed settings, and the reason that the operator gave', async () => {
    const { node, coordinator, toy } = at;
    await coordinator.open(1, [], { phase: 'waiting' });
    node.start();
    await at.until(() => at.phase() === 'awaiting');
    const job = () => node.status().job;
    expect(job()?.newestChange).toBeNull();
    const change = { term: 1, sequence: 1, previous: null, fromRound: 1, values };
    const record = coordinator.changeSettings(change, 'the loss was noisy');
    await coordinator.open(1, [], { phase: 'waiting', settings: { record, values } });
    await at.until(() => job()?.newestChange?.digest === record);
    const { fromRound, changes, reason } = job()!.newestChange!;
    expect({ fromRound, reason }).toEqual({ fromRound: 1, reason: 'the loss was noisy' });
    const { learningRate } = toy.manifest.training;
    expect(changes).toContainEqual({ key: 'training.learningRate', before: learningRate, after: 0.01 });
    expect(at.infos('settings-changed')).toMatchObject([{ fromRound: 1, reason, changes }]);
  });

  test('a node that cannot take part shows the changed number of rounds', async () => {
    at = setUp({}, { options: { policy: { maxBaseBytes: 5, maxDiskBytes: 1e9, maxMemoryBytes: 1e9 } } });
    const { node, coordinator } = at;
    const record = coordinator.changeSettings({ term: 1, sequence: 1, previous: null, fromRound: 1, values });
    await coordinator.open(1, [], { phase: 'waiting', settings: { record, values } });
    node.start();
    await at.until(() => node.swarmNode.view().context?.headSettings.newest?.digest === record);
    expect(node.status().job).toMatchObject({ rounds: 9, phase: null });
  });

  test.each(['by gossip', 'in the answer to its request to join'])(
    'a node takes no head with other settings than the signed change, %s',
    async (way) => {
      const { node, coordinator, codes } = at;
      await coordinator.open(1, [], { phase: 'waiting' });
      if (way === 'by gossip') {
        node.start();
        await at.until(() => at.phase() === 'awaiting');
      }
      const record = coordinator.changeSettings({
        term: 1,
        sequence: 1,
        previous: null,
        fromRound: 1,
        values,
      });
      const settings = { record, values: { ...values, learningRate: 1 } };
      await coordinator.open(1, [node.peer], { settings });
      if (way !== 'by gossip') node.start();
      await at.pass(15_000);
      expect(coordinator.updates).toEqual([]);
      const failed = [...codes('head-failed'), ...codes('poll-failed'), ...codes('join-failed')];
      expect(new Set(failed)).toEqual(new Set(['SETTINGS_MISMATCH']));
      await coordinator.open(1, [node.peer], { settings: { record, values } });
      await at.until(() => coordinator.updates.length === 1);
    },
  );
});
