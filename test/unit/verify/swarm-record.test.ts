import { beforeAll, expect, test } from 'vitest';
import { netError } from '../../../net/errors.ts';
import type { SwarmNetwork } from '../../../net/network.ts';
import { sha256 } from '../../../protocol/cbor.ts';
import { PROOFS_PER_ANSWER, RESIDUAL_BYTES, ROUND_PEERS } from '../../../protocol/limits.ts';
import { rpcMethods } from '../../../protocol/requests/rpc.ts';
import { signMessage, verifyMessage } from '../../../protocol/signing.ts';
import { openSwarmRecord, type SwarmRecordDeps } from '../../../verify/swarm-record.ts';
import { verifyRecord } from '../../../verify/verify-job.ts';
import { signerOf } from '../../utils/swarm/signers.ts';
import { addressOf } from '../../utils/virtual/virtual-network.ts';
import { ScriptedPeer } from '../coordinator/scripted-peer.ts';
import type { ToySwarm } from '../coordinator/toy-swarm.ts';
import { COORDINATOR } from '../coordinator/world.ts';
import { playedJob } from './forged-job.ts';

/** Opens the record of a played job over the virtual network. Virtual time passes with each request. */
async function opened(swarm: ToySwarm, overrides: Partial<SwarmRecordDeps> = {}) {
  const { world } = swarm;
  const { job } = world.toy;
  const reader = new ScriptedPeer(50, world);
  const { manifest, head } = await reader.ask('manifest', { job, invite: null });
  const calls: string[] = [];
  const request = ((_peer: string, method: 'record', body: never) => {
    calls.push(method);
    return reader.ask(method, body);
  }) as SwarmNetwork['request'];
  const read = {
    job,
    coordinator: COORDINATOR.peerId,
    manifest,
    head: verifyMessage('head', head!).message,
    signedHead: head!,
  };
  const record = await openSwarmRecord(read, {
    network: { request },
    clock: world.clock.process(() => true),
    signal: new AbortController().signal,
    fetch: async ({ digest, size }) => {
      const bytes = world.disk.files.get(digest);
      expect(bytes?.byteLength ?? size).toBe(size);
      return bytes ?? null;
    },
    ...overrides,
  });
  return { record, calls };
}

let swarm: ToySwarm;

beforeAll(async () => {
  ({ swarm } = await playedJob());
});

test('a job verified over the network has the same checks as one verified from a bundle', async () => {
  const { record, calls } = await opened(swarm);
  const report = await verifyRecord(record, { job: swarm.world.toy.job });
  expect(report.problems).toEqual([]);
  expect(report).toMatchObject({ ok: true, recomputed: 3 });
  expect(calls.filter((method) => method === 'record')).toHaveLength(4);
  // The requests are the same for all results of the verification, so that they tell the coordinator nothing.
  const wrong = await opened(swarm, { fetch: async () => null });
  await verifyRecord(wrong.record);
  expect(wrong.calls).toEqual(calls);
});

test('stops when rounds do not rise, and asks for no more checkpoints than the job has rounds', async () => {
  const { world } = swarm;
  const { job } = world.toy;
  const reader = new ScriptedPeer(51, world);
  const { manifest, head } = await reader.ask('manifest', { job, invite: null });
  const { message } = verifyMessage('head', head!);
  const endless = { ...message.checkpoint, digest: '0'.repeat(64), round: 9_000, ordinal: 2 ** 40 };
  const asked: number[] = [];
  const request = ((_peer: string, method: 'record', body: { ordinal: number }) => {
    if (method === 'record') asked.push(body.ordinal);
    const answer = { ...body, ordinal: Math.min(body.ordinal, 3) };
    return reader.ask(method, (method === 'record' ? answer : body) as never);
  }) as SwarmNetwork['request'];
  const signedHead = signMessage('head', { ...message, round: 9_000, checkpoint: endless }, COORDINATOR);
  const record = await openSwarmRecord(
    {
      ...{ job, manifest, signedHead },
      coordinator: COORDINATOR.peerId,
      head: { ...message, checkpoint: endless },
    },
    {
      network: { request },
      clock: world.clock.process(() => true),
      signal: new AbortController().signal,
      fetch: async () => null,
    },
  );
  const { problems } = await verifyRecord(record);
  expect(asked).toEqual([0, 1, 2, 3, 4]);
  expect(problems.at(-1)).toMatchObject({ code: 'VERIFY_SOURCE', round: 3 });
  asked.length = 0;
  for await (const _ of record.checkpoints(9_000)) expect(Math.max(...asked)).toBeLessThanOrEqual(9_000);
});

test('fetches no blob that is larger than the verification allows', async () => {
  const fetched: string[] = [];
  const fetch = async ({ digest }: { digest: string }) => {
    fetched.push(digest);
    return new Uint8Array();
  };
  const { record } = await opened(swarm, { fetch });
  for await (const { residual } of record.checkpoints(1)) {
    if (residual !== null)
      expect(await record.blob({ digest: residual, size: null, maxBytes: 10 })).toBeNull();
  }
  expect(await record.blob({ digest: 'a', size: 101, maxBytes: 100 })).toBeNull();
  expect(fetched).toEqual([]);
  expect(await record.blob({ digest: 'a', size: 100, maxBytes: 100 })).toHaveLength(0);
});

test('an answer may not name a residual that is larger than any adapter', () => {
  const answer = (size: number) => {
    const residual = { digest: sha256(new Uint8Array()), size };
    return rpcMethods.record.response.safeParse({ checkpoint: null, residual, proofs: [] }).success;
  };
  expect([answer(RESIDUAL_BYTES), answer(RESIDUAL_BYTES + 1)]).toEqual([true, false]);
});

test('finds the first round by bisection, and takes the residual before it from the coordinator', async () => {
  const { record } = await opened(swarm);
  const report = await verifyRecord(record, { from: 3 });
  expect(report).toMatchObject({ ok: true, recomputed: 1 });
  expect(report.checkpoints.map(({ round }) => round)).toEqual([3]);
});

test('a coordinator that has lost a checkpoint shows the gap, and the checkpoints after it can be verified', async () => {
  const { swarm: lossy } = await playedJob();
  const { job } = lossy.world.toy;
  lossy.world.store.gaps.clear(job, 0, 2);
  const whole = await verifyRecord((await opened(lossy)).record);
  expect(whole.checkpoints.map(({ round }) => round)).toEqual([0, 2, 3]);
  expect(whole.problems).toMatchObject([{ code: 'VERIFY_SOURCE', round: 2 }]);
  const after = await verifyRecord((await opened(lossy)).record, { from: 3 });
  expect(after).toMatchObject({ ok: true, problems: [] });
  expect(after.checkpoints.map(({ round }) => round)).toEqual([3]);
  const { record } = await opened(lossy);
  await expect(verifyRecord(record, { from: 4 })).rejects.toMatchObject({ code: 'ROUND_UNKNOWN' });
});

test('a verification that waits for a busy coordinator ends when it is aborted', async () => {
  const life = new AbortController();
  let requests = 0;
  const request = (async () => {
    requests++;
    throw netError('RPC_REFUSED', 'too many requests', { code: 'RPC_RATE_LIMITED' });
  }) as SwarmNetwork['request'];
  const clock = { now: () => 0, monotonic: () => 0, after: () => () => {} };
  const { record } = await opened(swarm, { network: { request }, clock, signal: life.signal });
  const reading = verifyRecord(record);
  const reason = new Error('the reader left');
  setImmediate(() => life.abort(reason));
  await expect(reading).rejects.toBe(reason);
  expect(requests).toBe(1);
});

test('the coordinator answers proofs in pages, and nothing about a checkpoint that does not exist', async () => {
  const { job } = swarm.world.toy;
  const reader = new ScriptedPeer(50, swarm.world);
  const whole = await reader.ask('record', { job, ordinal: 3, first: 0 });
  expect(whole.proofs).toHaveLength(3);
  expect(whole.proofs.length).toBeLessThan(PROOFS_PER_ANSWER);
  const rest = await reader.ask('record', { job, ordinal: 3, first: 2 });
  expect(rest.proofs).toEqual(whole.proofs.slice(2));
  expect(sha256(rest.checkpoint!)).toBe(sha256(whole.checkpoint!));
  const none = { checkpoint: null, residual: null, proofs: [] };
  expect(await reader.ask('record', { job, ordinal: 4, first: 0 })).toEqual(none);
});

/** Peers that share an address. */
function peersAt(address: string, count: number, world: ToySwarm['world'], first: number): ScriptedPeer[] {
  return Array.from({ length: count }, (_, i) => {
    const peer = new ScriptedPeer(first + i, world);
    peer.host.address = address;
    return peer;
  });
}

/**
 * Lets peers ask for records without end. They ask for different pages, so that few answers are in memory.
 * @returns the number of answers so far
 */
function flood(peers: readonly ScriptedPeer[], job: string): { answers: number } {
  const counts = { answers: 0 };
  let page = 0;
  const never = new AbortController().signal;
  for (const { host } of peers) {
    const ask = async (): Promise<void> => {
      await host.connect(addressOf(COORDINATOR.peerId), { signal: never });
      for (;;) {
        const first = page++ % ROUND_PEERS;
        // A refusal is an answer too.
        const answer = host.request(
          COORDINATOR.peerId,
          'record',
          { job, ordinal: 3, first },
          { signal: never },
        );
        await answer.then(
          () => counts.answers++,
          (error) => expect(error.values.code).toBe('RPC_RATE_LIMITED'),
        );
      }
    };
    // The requests fail when the test has ended.
    void ask().catch(() => {});
  }
  return counts;
}

test('one address cannot use up the quota of strangers, which members do not use', async () => {
  const { swarm: played } = await playedJob();
  const { world } = played;
  const { job } = world.toy;
  const attackers = flood(peersAt('attackers', 60, world, 60), job);
  const before = world.clock.now();
  await world.pass(20_000);
  const [reader] = peersAt('reader', 1, world, 50) as [ScriptedPeer];
  const asked = world.clock.now();
  for (let call = 0; call < 10; call++) {
    const { checkpoint } = await reader.ask('record', { job, ordinal: call % 4, first: 0 });
    expect(checkpoint).not.toBeNull();
  }
  // The coordinator answers six calls per second. While the reader calls, half of these answers are for the reader.
  expect(world.clock.now() - asked).toBeLessThan(10 * 3 * 170);
  const seconds = (world.clock.now() - before) / 1000;
  expect(attackers.answers).toBeLessThanOrEqual(60 + 6 * seconds + 1);
  const member = new ScriptedPeer(49, world);
  await member.join();
  const joined = world.clock.now();
  await member.ask('record', { job, ordinal: 0, first: 0 });
  expect(world.clock.now() - joined).toBeLessThan(50);
});

test('one address cannot use up the quota of the members of a job, which those of another job do not use', async () => {
  const { swarm: played } = await playedJob();
  const { world } = played;
  const { job } = world.toy;
  const prepared = world.prepared();
  const manifest = { ...prepared.manifest, name: 'other' };
  const { run: other } = await world.settle(
    world.coordinator.create({ ...prepared, content: 'other', manifest }),
  );
  const ofOther = new ScriptedPeer(49, world);
  ofOther.job = other.context.job;
  await ofOther.join();
  const [member] = peersAt('member', 1, world, 50) as [ScriptedPeer];
  await member.join();
  const members = peersAt('attackers', 40, world, 60);
  for (const one of members) await one.join();
  const attackers = flood(members, job);
  const before = world.clock.now();
  await world.pass(20_000);
  const asked = world.clock.now();
  for (let first = 0; first < 10; first++) await member.ask('record', { job, ordinal: 2, first });
  // The coordinator reads twelve pages per second. While the member asks, half of these pages are for the member.
  expect(world.clock.now() - asked).toBeLessThan(10 * 3 * 85);
  const seconds = (world.clock.now() - before) / 1000;
  expect(attackers.answers).toBeLessThanOrEqual(120 + 12 * seconds + 1);
  const inMemory = world.clock.now();
  await member.ask('record', { job, ordinal: 2, first: 9 });
  await ofOther.ask('record', { job: ofOther.job, ordinal: 0, first: 0 });
  expect(world.clock.now() - inMemory).toBeLessThan(50);
});

test('strangers under many identities share a quota for figures, and an answer in memory costs members nothing', async () => {
  const { swarm: played } = await playedJob();
  const { world } = played;
  const { job } = world.toy;
  const strangers = peersAt('strangers', 40, world, 60);
  const asked = world.clock.now();
  await Promise.all(strangers.map((one) => one.ask('figures', { job, round: 1 })));
  // 30 calls are answered at once, and the other 10 at 3 calls per second at most.
  expect(world.clock.now() - asked).toBeGreaterThan(10 * 300);
  const members = peersAt('members', 10, world, 110);
  for (const one of members) await one.join();
  // A round without scores is round 40.
  for (const round of [1, 40]) {
    const joined = world.clock.now();
    for (let call = 0; call < 10; call++) {
      await Promise.all(members.map((one) => one.ask('figures', { job, round })));
    }
    // If each of the 100 calls used the quota of 60 calls, the last 40 calls would take 6.7 s.
    expect(world.clock.now() - joined, `round ${round}`).toBeLessThan(1_000);
  }
});

test('of many members that ask for one page at the same time, one uses the quota', async () => {
  const { swarm: played } = await playedJob();
  const { world } = played;
  const { job } = world.toy;
  const members = peersAt('members', 10, world, 60);
  for (const one of members) await one.join();
  const asked = world.clock.now();
  for (let first = 0; first < 20; first++) {
    await Promise.all(members.map((one) => one.ask('record', { job, ordinal: 3, first })));
  }
  // If each of the 200 calls used the quota of 120 calls, the last 80 calls would take 6.7 s.
  expect(world.clock.now() - asked).toBeLessThan(1_000);
});

test('the record of a job with an invite is only for peers that may read the job', async () => {
  const { swarm: closed } = await playedJob({
    admission: { kind: 'peers', peers: [1, 2, 3].map((n) => peerId(n)) },
  });
  const stranger = new ScriptedPeer(50, closed.world);
  const asked = stranger.ask('record', { job: closed.world.toy.job, ordinal: 0, first: 0 });
  await expect(asked).rejects.toMatchObject({ values: { code: 'NOT_ADMITTED' } });
});

function peerId(number: number): string {
  return signerOf(number).peerId;
}
