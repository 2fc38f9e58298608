import { describe, expect, test } from 'vitest';
import { decodeAdapter } from '../../../../lora/adapter/codec.ts';
import { placesInRound, readRows } from '../../../../lora/data/shards/round-rows.ts';
import { decodeUpdate } from '../../../../lora/update/index.ts';
import type { Figures } from '../../../../protocol/messages.ts';
import { verifyMessage } from '../../../../protocol/signing.ts';
import { BELIEF_UPDATES } from '../../../../verify/scores/belief.ts';
import { checkScores, type ScoreWitness } from '../../../../verify/scores/check-scores.ts';
import { signerOf } from '../../../utils/signers.ts';
import { ScriptedPeer } from '../../coordinator/scripted-peer.ts';
import { gradient, ToySwarm } from '../../coordinator/toy-swarm.ts';
import { COORDINATOR } from '../../coordinator/world.ts';

const { signal } = new AbortController();

/** Returns the published figures of the rounds 1 to `last`, and a witness for each that has only public facts. */
async function publishedBy(swarm: ToySwarm, last: number) {
  const { toy, disk } = swarm.world;
  const { data } = toy.manifest;
  const shares = new Map<string, number[]>();
  const rounds: { figures: Figures; witness: ScoreWitness }[] = [];
  const adapters = new Map(
    swarm.world.store.rounds
      .checkpoints(toy.job)
      .map(({ digest, envelope }) => [digest, verifyMessage('checkpoint', envelope).message.adapter.digest]),
  );
  for (let round = 1; round <= last; round++) {
    const { figures: envelope } = await swarm.peers[0]!.ask('figures', { job: toy.job, round });
    const { author, message: figures } = verifyMessage('figures', envelope!);
    expect(author).toBe(COORDINATOR.peerId);
    const earlier = new Map([...shares].map(([peer, known]) => [peer, known.slice(0, BELIEF_UPDATES)]));
    const adapter = decodeAdapter(disk.files.get(adapters.get(figures.parent)!)!, toy.layout);
    rounds.push({
      figures,
      witness: {
        rows: data.rows,
        load: async ({ update, preset }) => decodeUpdate(disk.files.get(update)!, toy.layout, preset),
        gradient: async (positions, made) => {
          const places = placesInRound(
            data,
            { job: toy.job, round: made, parent: figures.parent },
            positions,
          );
          const read = async ({ digest }: { digest: string }) => disk.files.get(digest)!;
          return gradient(adapter, await readRows(data, places, { read, signal }));
        },
        earlier: (peer) => earlier.get(peer) ?? [],
      },
    });
    for (const { peer, share } of figures.updates) {
      if (share !== null) shares.set(peer, [share, ...(shares.get(peer) ?? [])]);
    }
  }
  return rounds;
}

describe('published scores', () => {
  test('a witness computes the same scores, shares and beliefs, and sees a figure that was changed', async () => {
    const swarm = new ToySwarm(['honest', 'honest', 'honest', 'honest', 'flip', 'copy']);
    await swarm.play(await swarm.start(), 3);
    const rounds = await publishedBy(swarm, 3);
    for (const { figures, witness } of rounds) {
      expect(figures.updates).toHaveLength(6);
      expect(await checkScores(figures, witness)).toEqual([]);
    }
    const { figures, witness } = rounds[2]!;
    const first = figures.updates.find(({ peer }) => peer === swarm.peers[0]!.id)!;
    expect(first.share).toBeGreaterThan(0.3);
    const changed = async (part: Partial<(typeof figures.updates)[number]>) => {
      const updates = figures.updates.map((update) => (update === first ? { ...first, ...part } : update));
      const found = await checkScores({ ...figures, updates }, witness);
      return new Set(found.map(({ figure }) => figure));
    };
    const { effect, gain } = first.score!;
    expect(await changed({ score: { ...first.score!, effect: -effect } })).toContain('effect');
    expect(await changed({ score: { ...first.score!, gain: 2 * gain } })).toContain('gain');
    expect(await changed({ share: first.share! / 2 })).toEqual(new Set(['share']));
    expect(await changed({ belief: first.belief / 2 })).toEqual(new Set(['belief']));
    expect(await changed({ harmful: !first.harmful })).toContain('harmful');
  });

  test('only members read them, and a round without scores has none', async () => {
    const peers = [1, 2].map((number) => signerOf(number).peerId);
    const swarm = new ToySwarm(['honest', 'honest'], { admission: { kind: 'peers', peers } });
    await swarm.play(await swarm.start(), 1);
    const { job } = swarm.world.toy;
    expect(await swarm.peers[0]!.ask('figures', { job, round: 40 })).toEqual({ figures: null });
    const stranger = new ScriptedPeer(99, swarm.world);
    const error = await stranger.ask('figures', { job, round: 1 }).catch((caught: unknown) => caught);
    expect(error).toMatchObject({ code: 'RPC_REFUSED', values: { code: 'NOT_ADMITTED' } });
  });
});
