import { beforeAll, describe, expect, test } from 'vitest';
import { decodeAdapter } from '../../../../lora/adapter/codec.ts';
import { placesInRound, readRows } from '../../../../lora/data/shards/round-rows.ts';
import { decodeUpdate } from '../../../../lora/update/index.ts';
import type { Figures } from '../../../../protocol/messages.ts';
import { verifyMessage } from '../../../../protocol/signing.ts';
import { checkScores, type ScoreWitness } from '../../../../verify/scores/check-scores.ts';
import { signerOf } from '../../../utils/swarm/signers.ts';
import { ScriptedPeer } from '../../coordinator/scripted-peer.ts';
import { gradient, ToySwarm } from '../../coordinator/toy-swarm.ts';
import { COORDINATOR } from '../../coordinator/world.ts';

const { signal } = new AbortController();

/** Returns the published figures of a round, and a witness that has only public facts. */
async function publishedBy(swarm: ToySwarm, round: number) {
  const { toy, disk } = swarm.world;
  const { data } = toy.manifest;
  const { figures: envelope } = await swarm.peers[0]!.ask('figures', { job: toy.job, round });
  const { author, message: figures } = verifyMessage('figures', envelope!);
  expect(author).toBe(COORDINATOR.peerId);
  const parent = swarm.world.store.rounds.checkpointOf(toy.job, figures.parent)!;
  const { digest } = verifyMessage('checkpoint', parent.envelope).message.adapter;
  const adapter = decodeAdapter(disk.files.get(digest)!, toy.layout);
  const witness: ScoreWitness = {
    rows: data.rows,
    load: async ({ update, preset }) => decodeUpdate(disk.files.get(update)!, toy.layout, preset),
    gradient: async (positions, made) => {
      const key = { job: toy.job, round: made, parent: figures.parent };
      const read = async (shard: { digest: string }) => disk.files.get(shard.digest)!;
      return gradient(adapter, await readRows(data, placesInRound(data, key, positions), { read, signal }));
    },
  };
  return { figures, witness };
}

describe('published scores', () => {
  let swarm: ToySwarm;
  let rounds: Awaited<ReturnType<typeof publishedBy>>[];

  beforeAll(async () => {
    swarm = new ToySwarm(['honest', 'honest', 'honest', 'honest', 'flip', 'copy']);
    await swarm.play(await swarm.start(), 3);
    rounds = await Promise.all([1, 2, 3].map((round) => publishedBy(swarm, round)));
  });

  test('a witness computes the same scores, shares and beliefs', async () => {
    for (const { figures, witness } of rounds) {
      expect(figures.updates).toHaveLength(6);
      expect(await checkScores(figures, witness)).toEqual([]);
    }
    // The figures of the third round name, for each author, its shares in the two earlier merges.
    const { updates } = rounds[2]!.figures;
    for (const { earlier } of updates) expect(earlier!.map(({ merge }) => merge)).toEqual([2, 1]);
  });

  test('a witness sees each figure that was changed', async () => {
    const { figures, witness } = rounds[2]!;
    const first = figures.updates.find(({ peer }) => peer === swarm.peers[0]!.id)!;
    expect(first.share).toBeGreaterThan(0.3);
    const changed = async (part: Partial<Figures['updates'][number]>) => {
      const updates = figures.updates.map((update) => (update === first ? { ...first, ...part } : update));
      const found = await checkScores({ ...figures, updates }, witness);
      expect(
        found.every(({ figure, peer }) => peer === first.peer || figure === 'share' || figure === 'belief'),
      ).toBe(true);
      return new Set(found.filter(({ peer }) => peer === first.peer).map(({ figure }) => figure));
    };
    const { effect, gain, ownRows } = first.score!;
    const score = first.score!;
    expect(await changed({ score: { ...score, effect: -effect } })).toContain('effect');
    expect(await changed({ score: { ...score, gain: 2 * gain } })).toContain('gain');
    expect(await changed({ score: { ...score, ownRows: ownRows - 1 } })).toContain('ownRows');
    expect(await changed({ score: { ...score, exact: 1 } })).toContain('exact');
    expect(await changed({ share: first.share! / 2 })).toEqual(new Set(['share']));
    expect(await changed({ belief: first.belief / 2 })).toEqual(new Set(['belief']));
    expect(await changed({ harmful: !first.harmful })).toContain('harmful');
    expect(await changed({ earlier: [] })).toContain('belief');
    expect(await changed({ late: { effect, effectError: 0 } })).toEqual(new Set(['late']));
    expect(await changed({ end: first.start })).toEqual(new Set(['interval']));
    expect(await changed({ steps: 0 })).toEqual(new Set(['interval']));
  });

  test('an update that is called empty although it is not is found', async () => {
    const { figures, witness } = rounds[0]!;
    const updates = figures.updates.map((update, i) =>
      i === 0 ? { ...update, score: null, share: 0, belief: 0, harmful: true } : update,
    );
    const { peer } = updates[0]!;
    const found = await checkScores({ ...figures, updates }, witness);
    expect(found).toContainEqual(expect.objectContaining({ peer, figure: 'harmful', computed: 0 }));
  });
});

test('only members read figures, and a round without scores has none', async () => {
  const peers = [1, 2].map((number) => signerOf(number).peerId);
  const swarm = new ToySwarm(['honest', 'honest'], { admission: { kind: 'peers', peers } });
  await swarm.play(await swarm.start(), 1);
  const { job } = swarm.world.toy;
  expect(await swarm.peers[0]!.ask('figures', { job, round: 40 })).toEqual({ figures: null });
  const stranger = new ScriptedPeer(99, swarm.world);
  const error = await stranger.ask('figures', { job, round: 1 }).catch((caught: unknown) => caught);
  expect(error).toMatchObject({ code: 'RPC_REFUSED', values: { code: 'NOT_ADMITTED' } });
});
