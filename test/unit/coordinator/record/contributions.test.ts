import { expect, test } from 'vitest';
import { PeerViews } from '../../../../coordinator/api/peer-views.ts';
import { Contributions, contributionOf } from '../../../../coordinator/record/contributions.ts';
import type { Store } from '../../../../coordinator/store/store.ts';
import { signMessage } from '../../../../protocol/signing.ts';
import { signerOf } from '../../../utils/swarm/signers.ts';
import { ScriptedPeer, training } from '../scripted-peer.ts';
import { World } from '../world.ts';

/** Sums of a job in which each round merges an update of each of these nodes. */
function ofRounds(tokens: readonly number[]) {
  const digest = '0'.repeat(64);
  const [peers, author] = [tokens.map((_, i) => signerOf(i + 1).peerId), signerOf(0)];
  const contributors = peers.map((peer, i) => ({
    ...{ peer, update: digest, round: 1, weight: 1 },
    tokens: tokens[i]!,
  }));
  const losses = { heldOutLoss: null, heldOutTokens: 0, trainLoss: null };
  const metrics = { ...losses, tokens: 0, updateBytes: 0, seconds: 1, drift: null, outerRate: 1 };
  const refs = { base: digest, parent: null, adapter: { digest, size: 1 }, delta: null };
  const envelope = signMessage(
    'checkpoint',
    { job: digest, term: 1, round: 1, ...refs, contributors, metrics, createdAt: 0 },
    author,
  );
  const read: [number, number][] = [];
  const checkpointsFrom = (_job: string, first: number, last: number) => {
    read.push([first, last]);
    return Array.from({ length: last - first + 1 }, () => ({ envelope }));
  };
  const store = { rounds: { checkpointsFrom } } as unknown as Store;
  return { read, peers, sums: new Contributions('job', { store }) };
}

test('places follow the tokens, nodes with equally many tokens share a place, and each round is read once', async () => {
  const { read, peers, sums } = ofRounds([10, 30, 30, 5]);
  const ranking = await sums.upTo(50);
  const [a, b, c, d] = peers as [string, string, string, string];
  const of = (peer: string) => contributionOf(peer, ranking);
  const about = { round: 50, contributors: 4, totalTokens: 3750 };
  expect(of(b)).toEqual({ ...about, place: 1, tokens: 1500 });
  expect(of(c)).toEqual({ ...about, place: 1, tokens: 1500 });
  expect(of(a)).toEqual({ ...about, place: 3, tokens: 500 });
  expect(of(d)).toEqual({ ...about, place: 4, tokens: 250 });
  expect(of(signerOf(9).peerId)).toBeNull();
  expect(await sums.upTo(50)).toBe(ranking);
  await sums.upTo(51);
  expect(read).toEqual([
    [1, 20],
    [21, 40],
    [41, 50],
    [51, 51],
  ]);
});

test('a member learns its own place from the merged updates, the operator all sums, and others nothing', async () => {
  const world = new World({ rounds: { minPeers: 2 } });
  const { peers, head } = await training(world, 2);
  const [first, second] = peers as [ScriptedPeer, ScriptedPeer];
  const ask = async (peer: ScriptedPeer) => (await peer.ask('contribution', { job: peer.job })).contribution;
  expect(await ask(first)).toBeNull();
  for (const [i, peer] of peers.entries()) {
    const update = peer.update(head);
    await peer.submit(peer.seal({ ...update, tokens: update.tokens - i }));
  }
  await world.until(() => world.run.record.checkpoint.ordinal === 1);
  const { contributors } = world.run.record.checkpoint.checkpoint;
  const tokensOf = ({ id }: ScriptedPeer): number => contributors.find(({ peer }) => peer === id)!.tokens;
  const totalTokens = contributors.reduce((sum, { tokens }) => sum + tokens, 0);
  const about = { round: 1, contributors: 2, totalTokens };
  expect(await ask(first)).toEqual({ ...about, place: 1, tokens: tokensOf(first) });
  expect(await ask(second)).toEqual({ ...about, place: 2, tokens: tokensOf(second) });
  const { coordinator, store, clock } = world;
  const network = { peers: () => [], otherVersions: () => [] } as never;
  const views = new PeerViews({ coordinator, store, clock, network });
  await views.countTokens();
  const strike = { kind: 'harmful', round: 1, digest: null, figures: {} } as const;
  world.run.ledger.strike(first.id, strike, { event: () => {}, afterwards: () => {} });
  const seen = new Map(views.peers().map((view) => [view.peer, view]));
  expect(seen.get(first.id)).toMatchObject({ tokens: tokensOf(first), strikes: 1 });
  expect(seen.get(second.id)).toMatchObject({ tokens: tokensOf(second), strikes: 0 });
  const stranger = new ScriptedPeer(9, world);
  await expect(ask(stranger)).rejects.toMatchObject({ values: { code: 'NOT_ADMITTED' } });
});
