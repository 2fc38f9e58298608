import { expect, test } from 'vitest';
import { PeerViews } from '../../../../coordinator/api/peer-views.ts';
import { Contributions, contributionOf } from '../../../../coordinator/record/contributions.ts';
import type { Contribution, Store } from '../../../../coordinator/store/store.ts';
import { ScriptedPeer, training } from '../scripted-peer.ts';
import { World } from '../world.ts';

/** Contributions of a job in which each round merges the same updates. */
function ofRounds(parts: readonly Contribution[]) {
  const read: [number, number][] = [];
  const contributions = (_job: string, first: number, last: number): Contribution[] => {
    read.push([first, last]);
    const rounds = last - first + 1;
    return parts.map(({ peer, updates, tokens }) => ({
      peer,
      updates: updates * rounds,
      tokens: tokens * rounds,
    }));
  };
  const store = { updates: { contributions } } as unknown as Store;
  return { read, sums: new Contributions('job', { store }) };
}

test('places follow the tokens, nodes with equally many tokens share a place, and each round is read once', async () => {
  const part = (peer: string, tokens: number): Contribution => ({ peer, updates: 1, tokens });
  const { read, sums } = ofRounds([part('a', 10), part('b', 30), part('c', 30), part('d', 5)]);
  const ranking = await sums.upTo(50);
  const of = (peer: string) => contributionOf(peer, ranking);
  const about = { round: 50, contributors: 4, totalTokens: 3750 };
  expect(of('b')).toEqual({ ...about, place: 1, tokens: 1500 });
  expect(of('c')).toEqual({ ...about, place: 1, tokens: 1500 });
  expect(of('a')).toEqual({ ...about, place: 3, tokens: 500 });
  expect(of('d')).toEqual({ ...about, place: 4, tokens: 250 });
  expect(of('e')).toBeNull();
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
