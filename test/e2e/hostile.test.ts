import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { isSwarmError } from '../../common/errors.ts';
import type { JobEvent } from '../../protocol/api/job-events.ts';
import { jobTopic } from '../../protocol/job/topics.ts';
import type { Head, Receipt, Update } from '../../protocol/messages.ts';
import { counts, type ReceiptCode } from '../../protocol/receipts.ts';
import { eventually } from '../utils/eventually.ts';
import { flood, HostilePeer, payloadFields, signRaw, withNaN } from './hostile-peer.ts';
import { chainFaults, PATIENCE_MS, TestSwarm } from './swarm.ts';

// With three honest nodes, the hostile peer is in the minority even if one of them is slow.
const honestNodes = ['otter', 'heron', 'badger'];
const rounds = { count: 16, localSteps: 120, minPeers: 3 };
// With a rate that falls to zero, the final losses of runs differ less than with a constant rate.
const training = { learningRate: 2e-3, schedule: 'cosine', finalFraction: 0 };
// Sets the default tolerance of jobs. `TestSwarm` itself would set one that accepts every merge.
const job = { rounds, training, acceptance: { tolerance: 0.002 } };
/** Number of messages of unknown keys on one connection. */
const FLOOD = 5_000;
const MEBIBYTE = 1024 * 1024;
/**
 * Limit on the relative difference between the final losses with and without the hostile peer. Even two runs without it
 * differ, because the number of steps of a node depends on its speed. On a busy machine, 21 runs without the hostile peer
 * ended between 0.7 % below and 1.4 % above their mean, and four runs with it between 0.6 % below and 0.1 % above.
 * test/unit/coordinator/job-run.test.ts checks that no bit of a refused update gets into a checkpoint.
 */
const RUNS_DIFFER = 0.03;

function finalLoss(events: readonly JobEvent[]): number {
  const finished = events.find((event) => event.type === 'finished');
  return finished?.heldOutLoss ?? Number.NaN;
}

async function metric(swarm: TestSwarm, pattern: RegExp): Promise<number> {
  const { url } = await swarm.api();
  const text = await (await fetch(new URL('/metrics', url))).text();
  return Number(pattern.exec(text)?.[1]);
}

function residentBytes(swarm: TestSwarm): Promise<number> {
  return metric(swarm, /^swarm_process_resident_memory_bytes (\S+)/m);
}

it('a hostile peer is refused with a reason code for each attack, and does not change the result', async () => {
  const clean = await TestSwarm.create();
  const cleanCoordinator = await (await clean.coordinator()).ready();
  await clean.createJob(job);
  const cleanNodes = honestNodes.map((name) => clean.node(name));
  const expected = finalLoss(await clean.untilFinished());
  await Promise.all([cleanCoordinator, ...cleanNodes].map((daemon) => daemon.kill()));

  const swarm = await TestSwarm.create();
  await (await swarm.coordinator()).ready();
  await swarm.createJob(job);
  const hostile = await HostilePeer.join({
    invite: swarm.invite,
    folder: swarm.folder,
    modelDir: join(swarm.folder, 'model'),
    lora: { rank: 4, alpha: 8 },
    signal: swarm.signal,
  });
  onTestFinished(() => hostile.stop());
  const heart = setInterval(() => void hostile.beat(), 1_000);
  onTestFinished(() => clearInterval(heart));
  for (const name of honestNodes) swarm.node(name);
  // Meanwhile, a stranger sends the coordinator a flood of messages that are signed with unknown keys.
  const flooding = flood(swarm.invite, FLOOD);

  type Attack = { name: string; bytes: (update: Update, head: Head) => Uint8Array; code: ReceiptCode };
  const changed = (change: (update: Update, head: Head) => Partial<Update>) => (update: Update, head: Head) =>
    hostile.signed({ ...update, ...change(update, head) });
  const payload = (change: (bytes: Uint8Array) => Uint8Array) =>
    changed(({ inline }) => payloadFields(change(Uint8Array.from(inline!))));
  const attacks: Attack[] = [
    { name: 'garbage', bytes: () => new Uint8Array(300).fill(0xa5), code: 'malformed' },
    { name: 'not finite', bytes: (update) => signRaw(withNaN(update), hostile.signer), code: 'malformed' },
    {
      name: 'oversized',
      bytes: changed(() => ({ payload: { digest: 'ab'.repeat(32), size: 60 * MEBIBYTE }, inline: null })),
      code: 'too-large',
    },
    {
      name: 'truncated',
      bytes: payload((bytes) => bytes.subarray(0, bytes.length - 40)),
      code: 'bad-payload',
    },
    {
      name: 'lying about size',
      bytes: changed(({ payload: p }) => ({ payload: { ...p, size: p.size - 1 } })),
      code: 'size-mismatch',
    },
    { name: 'indices out of bounds', bytes: payload((bytes) => bytes.fill(0xff, 40)), code: 'bad-payload' },
    { name: 'wrong round', bytes: changed(({ round }) => ({ round: round + 5 })), code: 'wrong-round' },
    { name: 'wrong parent', bytes: changed(() => ({ parent: 'cd'.repeat(32) })), code: 'wrong-parent' },
    {
      name: "others' rows",
      bytes: changed(({ end }) => ({ start: end, end: end + 1 })),
      code: 'not-assigned',
    },
    { name: 'another preset', bytes: changed(() => ({ preset: 'dense' })), code: 'wrong-preset' },
    {
      name: 'invalid signature',
      bytes: (update) => {
        const bytes = hostile.signed(update);
        bytes[bytes.length - 1]! ^= 1;
        return bytes;
      },
      code: 'bad-signature',
    },
  ];

  // In each round, the peer makes four attacks, and then sends a well-formed update of a thousand times the magnitude.
  // After a rate limit, it continues in the next round in which it has an assignment. Because its strikes suspend it,
  // this may be a later round than the next round of the job. The attack with two updates of one round comes last,
  // because it gets the peer banned.
  let round = 0;
  let before = 0;
  const scaled: number[] = [];
  /** The round for which the hostile peer signed two updates. */
  let doubled: number | null = null;
  const unlessRateLimited = async (submitted: Promise<Receipt>): Promise<Receipt | null> => {
    const receipt = await submitted.catch((error: unknown) => {
      if (isSwarmError(error, 'RPC_REFUSED') && error.values.code === 'RPC_RATE_LIMITED') return null;
      throw error;
    });
    return receipt?.code === 'rate-limited' ? null : receipt;
  };
  while (round < rounds.count - 1) {
    const head = await hostile.assignedHead(round);
    if (head.phase === 'finished') break;
    round = head.round;
    before ||= await residentBytes(swarm);
    const update = hostile.update(head, 1);
    for (const attack of attacks.slice(0, 4)) {
      const receipt = await unlessRateLimited(hostile.submit(attack.bytes(update, head)));
      if (!receipt) break;
      expect(receipt.code, `${attack.name}: ${receipt.detail}`).toBe(attack.code);
      attacks.shift();
    }
    const huge = hostile.update(head, 1_000);
    const first = await unlessRateLimited(hostile.submit(hostile.signed(huge)));
    if (first?.code !== 'accepted') continue;
    scaled.push(round);
    if (attacks.length > 0) continue;
    const second = await unlessRateLimited(hostile.submit(hostile.signed(hostile.update(head, 2_000))));
    if (!second) continue;
    expect(second.code, second.detail).toMatch(/^(conflicting|wrong-round)$/);
    if (second.code !== 'conflicting') continue;
    doubled = round;
    break;
  }
  expect(attacks, 'all attacks were made').toEqual([]);
  await eventually(async () => (await hostile.refusalToJoin()) === 'BANNED', { timeout: PATIENCE_MS });
  // Finally, the peer publishes 200 messages that are not updates on the gossip topic for updates. The nodes that
  // receive them stop accepting messages from this peer, and the job continues.
  for (let i = 0; i < 200; i++) {
    await hostile.network.publish(jobTopic(hostile.job, 'updates'), new Uint8Array(2_000).fill(i));
  }

  await flooding;
  const dropped = /^swarm_gossip_dropped_total\{reason="not-admitted"\} (\S+)/m;
  await eventually(async () => (await metric(swarm, dropped)) >= FLOOD, { timeout: PATIENCE_MS });

  const events = await swarm.untilFinished();
  const checkpoints = await swarm.checkpoints();
  expect(chainFaults(checkpoints)).toEqual([]);
  expect(checkpoints.length).toBe(rounds.count + 1);
  const merged = checkpoints.flatMap(({ checkpoint }) => checkpoint.contributors);
  expect(merged.filter(({ peer }) => peer === hostile.signer.peerId)).toEqual([]);
  expect(hostile.overheard, 'messages of other nodes').toEqual([]);
  expect(scaled.length).toBeGreaterThan(0);
  // Intake accepted these updates. Then the scores or the gate left them out, or they were outliers of their round.
  const outcomes = scaled.map((r) => {
    const undone = events.find(
      (e) => e.type === 'update-undone' && e.peer === hostile.signer.peerId && e.round === r,
    );
    return undone?.type === 'update-undone' ? undone.code : 'none';
  });
  expect(
    outcomes.filter(
      (code) => !['harmful', 'outlier', 'left-out', 'null-round', 'conflicting'].includes(code),
    ),
  ).toEqual([]);
  expect(doubled, 'two updates were signed for a round').not.toBeNull();
  expect(outcomes.some((code) => code === 'harmful' || code === 'outlier')).toBe(true);
  const struck = events.filter((event) => event.type === 'struck');
  expect(struck.filter(({ peer }) => peer !== hostile.signer.peerId)).toEqual([]);
  expect(struck.map(({ kind }) => kind)).toEqual(expect.arrayContaining(['bad-payload', 'conflicting']));
  expect(events.filter(({ type }) => type === 'banned')).toMatchObject([{ cause: 'proof', until: null }]);
  const honest = events.filter(
    (e) => e.type === 'update' && e.peer !== hostile.signer.peerId && !counts(e.code),
  );
  expect(honest, 'honest updates count').toEqual([]);

  const change = finalLoss(events) / expected - 1;
  expect(change, `held-out loss ${finalLoss(events)}, ${expected} without it`).toBeLessThan(RUNS_DIFFER);
  expect((await residentBytes(swarm)) - before).toBeLessThan(64 * MEBIBYTE);
}, 400_000);
