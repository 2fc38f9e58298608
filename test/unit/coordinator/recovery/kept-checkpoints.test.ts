import { expect, it, vi } from 'vitest';
import type { CoordinatorDeps } from '../../../../coordinator/context.ts';
import type { JobRun } from '../../../../coordinator/job-run.ts';
import { KeptCheckpoints } from '../../../../coordinator/recovery/kept-checkpoints.ts';
import { silentLogger } from '../../../../monitor/logs/log.ts';
import type { Checkpoint } from '../../../../protocol/messages.ts';
import type { RpcResponse } from '../../../../protocol/requests/rpc.ts';
import { signMessage, verifyMessage } from '../../../../protocol/signing.ts';
import { signerOf } from '../../../utils/swarm/signers.ts';
import { training } from '../scripted-peer.ts';
import { COORDINATOR, World } from '../world.ts';

type Answer = RpcResponse<'recall'>;

/**
 * A job of five rounds whose database lacks checkpoints.
 * @param answer answers the members that are asked
 * @param present the rounds whose checkpoints the database has
 */
async function withGap(
  members: number,
  answer: (peer: string, after: number) => Promise<Uint8Array[]>,
  present: readonly number[] = [1, 5],
) {
  const world = new World({ rounds: { minPeers: 1 } });
  await training(world, members);
  const { run, store, clock } = world;
  const { job } = run.context;
  const [first] = store.rounds.checkpoints(job);
  const { message } = verifyMessage('checkpoint', first!.envelope);
  const signed: Uint8Array[] = [];
  let parent = first!.digest;
  store.gaps.clear(job, 0, 100);
  for (let round = 1; round <= 5; round++) {
    const contributor = {
      peer: signerOf(round).peerId,
      update: '0'.repeat(64),
      round,
      tokens: 10,
      weight: 1,
    };
    const checkpoint: Checkpoint = { ...message, round, parent, contributors: [contributor] };
    const envelope = signMessage('checkpoint', checkpoint, COORDINATOR);
    const { digest } = verifyMessage('checkpoint', envelope);
    signed.push(envelope);
    const isKept = present.includes(round);
    const facts = { preset: 'dense', assignments: [], deadlineMs: 0, openedAt: 0 } as const;
    store.rounds.open(job, { ...facts, round, parent: isKept ? parent : '' });
    store.rounds.setOutcome(job, round, 'checkpoint');
    const rest = { residual: null, heldOutLoss: null, restores: null };
    if (isKept) store.rounds.putCheckpoint(job, { round, digest, envelope, ...rest });
    parent = digest;
  }
  const asked: string[] = [];
  const peers = run.members.list.all().map(({ peer }) => peer);
  const network = {
    signer: COORDINATOR,
    peers: () => peers.map((peer) => ({ peer })),
    // Pairs of members have one address.
    networkOf: (peer: string) => String(peers.indexOf(peer) >> 1),
    request: async (peer: string, _: string, { after }: { after: number }): Promise<Answer> => {
      asked.push(peer);
      return { head: null, checkpoints: await answer(peer, after), receipts: [], settings: [] };
    },
  } as unknown as CoordinatorDeps['network'];
  const kept = new KeptCheckpoints({ network, store, clock, log: silentLogger });
  const { stored } = run.context;
  Object.assign(run.context, { stored: { ...stored, term: 2 } });
  const rounds = () => store.rounds.checkpointRounds(job);
  return { world, run, job, store, kept, asked, peers, signed, message, rounds };
}

const never = () => new Promise<never>(() => {});

it('fills a gap from the parts that several members have', async () => {
  let parts: Uint8Array[][] = [];
  const all = await withGap(4, async (peer) => parts[all.peers.indexOf(peer)] ?? []);
  const { world, run, job, store, kept, asked, peers, signed, rounds } = all;
  const tokens = async () => (await run.contributions.upTo(5)).tokens;
  expect(await tokens()).toBe(20);
  const [, second, third, fourth] = signed;
  parts = [[third!], [fourth!, second!]];
  kept.note(run, peers[0]!);
  await world.settle(kept.idle());
  expect(rounds()).toEqual([0, 1, 5]);
  kept.note(run, peers[0]!);
  await world.settle(kept.idle());
  expect(asked).toEqual([peers[0]]);
  kept.note(run, peers[1]!);
  await world.until(() => rounds().length === 6, 'the whole chain');
  expect(store.gaps.of(job)).toEqual([]);
  expect(store.rounds.count(job, 'checkpoint')).toBe(5);
  expect(await tokens()).toBe(50);
  const before = asked.length;
  kept.note(run, peers[3]!);
  await world.settle(kept.idle());
  expect(asked).toHaveLength(before);
});

it('counts the tokens of a restored checkpoint also if another one of the answer cannot be stored', async () => {
  let sent: Uint8Array[] = [];
  const all = await withGap(1, async () => sent, [1, 3, 5]);
  const { world, run, kept, peers, signed, rounds } = all;
  const { collector } = run.context;
  const tokens = async () => (await run.contributions.upTo(5)).tokens;
  expect(await tokens()).toBe(30);
  sent = [signed[1]!, signed[3]!];
  const withScope = collector.withScope.bind(collector);
  vi.spyOn(collector, 'withScope').mockImplementationOnce(withScope).mockRejectedValueOnce(new Error('full'));
  kept.note(run, peers[0]!);
  await world.settle(kept.idle());
  expect(rounds()).toHaveLength(5);
  expect(await tokens()).toBe(40);
});

it('adds nothing that the coordinator has not signed for the job', async () => {
  let sent: Uint8Array[] = [];
  const all = await withGap(1, async () => sent);
  const { world, run, kept, peers, signed, message, rounds } = all;
  const fourth = verifyMessage('checkpoint', signed[3]!).message;
  const damaged = signed[3]!.slice();
  damaged[100]! ^= 1;
  sent = [
    signMessage('checkpoint', fourth, signerOf(77)),
    signMessage('checkpoint', { ...fourth, job: '0'.repeat(64) }, COORDINATOR),
    // A checkpoint of the job that is not part of the chain.
    signMessage('checkpoint', { ...message, round: 4, parent: '0'.repeat(64) }, COORDINATOR),
    damaged,
  ];
  kept.note(run, peers[0]!);
  await world.settle(kept.idle());
  expect(rounds()).toEqual([0, 1, 5]);
});

it('asks at most eight members at the same time, and one of an address; silent members do not end the search', async () => {
  let isSilent = true;
  const all = await withGap(40, async () => (isSilent ? never() : all.signed));
  const { world, run, kept, asked, peers, rounds, store, job } = all;
  for (const peer of peers) kept.note(run, peer);
  expect(asked).toHaveLength(8);
  expect(new Set(asked.map((peer) => peers.indexOf(peer) >> 1)).size).toBe(8);
  isSilent = false;
  await world.until(() => rounds().length === 6, 'the whole chain');
  expect(store.gaps.of(job)).toEqual([]);
});

it('asks no member before a recovery, or while the job is behind', async () => {
  const { run, kept, asked, peers } = await withGap(1, never);
  const { stored } = run.context;
  const withContext = (changes: Partial<JobRun['context']>): JobRun =>
    Object.assign(Object.create(run), { context: { ...run.context, ...changes } });
  kept.note(withContext({ stored: { ...stored, term: 1 } }), peers[0]!);
  kept.note(withContext({ isBehind: () => true }), peers[0]!);
  kept.note(run, signerOf(99).peerId);
  expect(asked).toEqual([]);
});

/** Signs a checkpoint that continues another one in the same term, as the coordinator did after the restore. */
function fork(message: Checkpoint, round: number, parent: string) {
  const envelope = signMessage('checkpoint', { ...message, round, parent, createdAt: 7 }, COORDINATOR);
  return { envelope, digest: verifyMessage('checkpoint', envelope).digest };
}

it('replaces checkpoints of the database that the history does not contain, also if a member lacks a checkpoint', async () => {
  let parts: number[][] = [];
  const all = await withGap(4, async (peer, after) => {
    const rounds = parts[all.peers.indexOf(peer)] ?? [];
    return rounds.filter((round) => round > after).map((round) => all.signed[round - 1]!);
  });
  const { world, run, job, store, kept, peers, signed, message } = all;
  // After the restore, the coordinator made rounds 2 and 3 again with other nodes.
  let parent = verifyMessage('checkpoint', signed[0]!).digest;
  store.gaps.clear(job, 1, 4);
  for (const round of [2, 3]) {
    const { digest, envelope } = fork(message, round, parent);
    const facts = { preset: 'dense', assignments: [], deadlineMs: 0, openedAt: 0 } as const;
    store.rounds.open(job, { ...facts, round, parent });
    store.rounds.setOutcome(job, round, 'checkpoint');
    const rest = { residual: null, heldOutLoss: null, restores: null };
    store.rounds.putCheckpoint(job, { round, digest, envelope, ...rest });
    parent = digest;
  }
  parts = [[3, 4], [], [2]];
  kept.note(run, peers[0]!);
  await world.until(() => store.gaps.of(job)[0]?.above.round === 3, 'a part of the history');
  kept.note(run, peers[2]!);
  await world.until(() => store.gaps.of(job).length === 0, 'the whole history');
  expect(store.rounds.count(job, 'checkpoint')).toBe(5);
  const digests = signed.map((envelope) => verifyMessage('checkpoint', envelope).digest);
  expect(
    store.rounds
      .checkpoints(job)
      .slice(1)
      .map(({ digest }) => digest),
  ).toEqual(digests);
});
