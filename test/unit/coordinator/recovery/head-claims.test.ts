import { expect, it } from 'vitest';
import type { CoordinatorDeps } from '../../../../coordinator/context.ts';
import { HeadClaims, type ProvenHead } from '../../../../coordinator/recovery/head-claims.ts';
import { silentLogger } from '../../../../monitor/logs/log.ts';
import { signMessage, verifyMessage } from '../../../../protocol/signing.ts';
import { signerOf } from '../../../utils/swarm/signers.ts';
import { training } from '../scripted-peer.ts';
import { COORDINATOR, World } from '../world.ts';

/**
 * Returns claims of later heads in a job with two members. Peers answer as `answers` says, and all others never answer.
 */
async function claims(answers: Readonly<Record<string, Uint8Array>> = {}) {
  const world = new World({ rounds: { minPeers: 1 } });
  await training(world, 2);
  const { job } = world.toy;
  const own = verifyMessage('head', world.store.jobs.head(job)!).message;
  const members = world.run.members.list.all().map(({ peer }) => peer);
  const asked: string[] = [];
  const proven: ProvenHead[] = [];
  const network = {
    signer: COORDINATOR,
    networkOf: (peer: string) => peer.split(' at ')[1] ?? peer,
    peers: () => ['stranger', ...members].map((peer) => ({ peer })),
    request: (peer: string) => {
      asked.push(peer);
      const head = answers[peer];
      if (head === undefined) return new Promise(() => {});
      return Promise.resolve({ head, checkpoints: [], receipts: [], settings: [] });
    },
  };
  const claimed = new HeadClaims({
    network: network as unknown as CoordinatorDeps['network'],
    clock: world.clock,
    log: silentLogger,
    signal: new AbortController().signal,
    onProven: (one) => proven.push(one),
  });
  const later = { term: own.term, sequence: own.sequence + 5 };
  const note = (peer: string, known = later): void => claimed.note(world.run, peer, known);
  const settled = async (): Promise<number> => {
    const before = world.clock.monotonic();
    let isSettled = false;
    void claimed.settled(job).then(() => {
      isSettled = true;
    });
    await world.until(() => isSettled, 'the end of the requests');
    return world.clock.monotonic() - before;
  };
  const signed = (signer = COORDINATOR) => signMessage('head', { ...own, ...later }, signer);
  const askConnected = (): void => claimed.askConnected(world.run);
  return { world, asked, proven, note, askConnected, own, members, settled, signed };
}

it('asks a peer for its head only if it claims a later one, and again only after 10 s', async () => {
  const { world, asked, note, own, members } = await claims();
  const [peer] = members as [string];
  note(peer, own);
  expect(asked).toEqual([]);
  note(peer);
  note(peer);
  expect(asked).toEqual([peer]);
  await world.clock.run(() => false, 10_100);
  // The peer did not answer, so it was asked a second time.
  expect(asked).toEqual([peer, peer]);
  note(peer);
  expect(asked).toEqual([peer, peer, peer]);
});

it('waits for the first claim of each member for 10 s, and not for further ones', async () => {
  const { world, note, members, settled } = await claims();
  const [one, two] = members as [string, string];
  note(one);
  expect(await settled()).toBe(10_000);
  await world.clock.run(() => false, 10_100);
  note(one);
  expect(await settled()).toBe(0);
  note(two);
  expect(await settled()).toBe(10_000);
});

it('waits for claims of ever new members for 30 s', async () => {
  const { world, note, settled } = await claims();
  const { run } = world;
  const has = run.members.list.has.bind(run.members.list);
  run.members.list.has = (peer) => peer.startsWith('new') || has(peer);
  let number = 0;
  const claim = (): void => {
    note(`new ${number++}`);
    world.clock.after(1_000, claim);
  };
  claim();
  const waited = await settled();
  expect(waited).toBeGreaterThanOrEqual(30_000);
  expect(waited).toBeLessThan(41_000);
});

it('asks all connected members that it has not asked lately, and waits for them for 10 s', async () => {
  const { asked, note, askConnected, members, settled } = await claims();
  note(members[1]!);
  askConnected();
  expect(asked).toEqual([members[1], members[0]]);
  expect(await settled()).toBe(10_000);
});

it('asks one stranger at a time, and delays no job for strangers', async () => {
  const { asked, note, members, settled } = await claims();
  note('stranger 1');
  note('stranger 2');
  note(members[0]!);
  expect(asked).toEqual(['stranger 1', members[0]]);
  expect(await settled()).toBe(10_000);
});

it('believes only heads that the coordinator has signed', async () => {
  const answers: Record<string, Uint8Array> = {};
  const { note, members, settled, signed, proven } = await claims(answers);
  const [one, two] = members as [string, string];
  answers[one] = signed(signerOf(77));
  answers[two] = signed();
  note(one);
  note(two);
  await settled();
  expect(proven.map(({ peer }) => peer)).toEqual([two]);
});

/** Lets all peers with a name that begins with `crowd` be members. */
function admitCrowd({ run }: World): void {
  const has = run.members.list.has.bind(run.members.list);
  run.members.list.has = (peer) => peer.startsWith('crowd') || has(peer);
}

it('asks another member at once while 100 silent members of one address claim later heads', async () => {
  const answers: Record<string, Uint8Array> = {};
  const { world, asked, note, members, signed, proven } = await claims(answers);
  admitCrowd(world);
  for (let i = 0; i < 100; i++) note(`crowd ${i} at one`);
  expect(asked).toHaveLength(8);
  answers[members[0]!] = signed();
  note(members[0]!);
  await world.until(() => proven.length > 0, 'the proof');
  expect(asked).toHaveLength(9);
});

it('asks a member above the limit of requests as soon as another request has ended', async () => {
  const { world, asked, note, members, settled } = await claims();
  admitCrowd(world);
  for (let i = 0; i < 64; i++) note(`crowd ${i}`);
  note(members[0]!);
  expect(asked).toHaveLength(64);
  expect(await settled()).toBe(20_000);
  expect(asked.filter((peer) => peer === members[0])).toHaveLength(2);
});
