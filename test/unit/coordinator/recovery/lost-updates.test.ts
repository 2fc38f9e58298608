import { expect, it } from 'vitest';
import { QueuePlace } from '../../../../coordinator/record/queue-place.ts';
import { catchUp } from '../../../../coordinator/recovery/catch-up.ts';
import type { StoredReceipt } from '../../../../coordinator/store/store.ts';
import { signMessage, verifyMessage } from '../../../../protocol/signing.ts';
import { signerOf } from '../../../utils/swarm/signers.ts';
import { digest } from '../../node/heads.ts';
import { ToySwarm } from '../toy-swarm.ts';
import { COORDINATOR } from '../world.ts';

it('tells authors of lost late updates that no round will merge them', async () => {
  const swarm = new ToySwarm(['honest', 'honest'], { rounds: { count: 8 } });
  await swarm.play(await swarm.start(), 4);
  const { run, store, toy } = swarm.world;
  const { job } = toy;
  const newest = store.rounds.newestCheckpoints(job, 1)[0]!;
  expect(newest.round).toBe(4);
  let number = 0;
  const late = (round: number): StoredReceipt => {
    const peer = signerOf(100 + ++number).peerId;
    return { term: 1, round, peer, digest: digest('update', number), code: 'late', detail: '', issuedAt: 0 };
  };
  const lost = [late(2), late(3), late(4), late(5)];
  const tooOld = late(1);
  const stored = late(4);
  const { round, peer, digest: update } = stored;
  const facts = { size: 1, preset: 'dense', tokens: 1, lossLast: 1, evidence: new Uint8Array(1) } as const;
  store.updates.insert(job, { round, peer, digest: update, ...facts, arrivedAt: 0, late: true });
  const merged = late(4);
  // The backup was made while round 5 was being merged: it has a late update of round 4 that the merge had selected, an accepted
  // update of round 5, and the late update that the lost checkpoint contains.
  const selected = late(3);
  const accepted = { ...late(5), code: 'accepted' } as const;
  for (const one of [selected, accepted, merged]) {
    const { round, peer, digest: update } = one;
    store.updates.insert(job, {
      round,
      peer,
      digest: update,
      ...facts,
      arrivedAt: 0,
      late: one !== accepted,
    });
    store.updates.addReceipt(job, one);
  }
  store.updates.select(job, 5, 3, 10);
  const score = { late: null, earlier: null, figures: null, share: 1, belief: 1, isHarmful: false };
  store.scores.insert(job, { ...score, peer, round: 4, mergeRound: 5 });
  store.scores.putSeed(job, 5, new Uint8Array(32));
  const { message } = verifyMessage('checkpoint', newest.envelope);
  const contributor = { ...message.contributors[0]!, peer: merged.peer, update: merged.digest, round: 4 };
  const checkpoint = { ...message, round: 5, parent: newest.digest, contributors: [contributor] };
  const envelope = signMessage('checkpoint', checkpoint, COORDINATOR);
  const { digest: newer } = verifyMessage('checkpoint', envelope);
  const own = verifyMessage('head', store.jobs.head(job)!).message;
  const head = {
    ...own,
    sequence: own.sequence + 10,
    checkpoint: { ...own.checkpoint, digest: newer, ordinal: 5 },
  };
  const checkpoints = [{ round: 5, digest: newer, envelope, checkpoint }];
  const receipts = [...lost, tooOld, stored, merged];
  const start = { digest: newer, round: 5, ordinal: 5, adapter: checkpoint.adapter };
  const records = {
    head,
    start,
    checkpoints,
    ancestor: newest.digest,
    beforeGap: [],
    settings: [],
    receipts,
    removals: null,
  };
  catchUp(records, { from: 'peer', held: new Set() }, run.context);
  expect([store.scores.ofMerge(job, 5), store.scores.seed(job, 5)]).toEqual([[], null]);
  expect(store.scores.ofMerge(job, 4)).not.toEqual([]);
  const code = ({ peer, digest }: StoredReceipt) => store.updates.receipt(job, peer, digest)?.code;
  expect(lost.map(code)).toEqual(Array(4).fill('null-round'));
  // Each of these updates was accepted before, so the counts of its node stay right.
  for (const { peer, digest } of lost) {
    const codes = store.updates
      .receipts(job, peer, 10)
      .flatMap((one) => (one.digest === digest ? [one.code] : []));
    expect(codes).toEqual(['null-round', expect.stringMatching(/^(accepted|late)$/)]);
  }
  expect([tooOld, stored, merged, selected].map(code)).toEqual(Array(4).fill('late'));
  expect(code(accepted)).toBe('null-round');
  const fate = ({ round, peer }: StoredReceipt) => {
    const row = store.updates.find(job, round, peer);
    return row && { fate: row.fate, mergeRound: row.mergeRound };
  };
  expect(fate(merged)?.fate).toBe('merged');
  expect([selected, stored].map(fate)).toEqual(Array(2).fill({ fate: 'open', mergeRound: null }));
  expect(fate(accepted)).toBeNull();
});

it('opens a queued job whose lost heads show that it had left the queue', async () => {
  const swarm = new ToySwarm(['honest', 'honest'], { rounds: { count: 8 } });
  await swarm.play(await swarm.start(), 1);
  const { run, store, toy } = swarm.world;
  const { job } = toy;
  const { digest: newest, envelope, round } = store.rounds.newestCheckpoints(job, 1)[0]!;
  const { adapter } = verifyMessage('checkpoint', envelope).message;
  const own = verifyMessage('head', store.jobs.head(job)!).message;
  const records = {
    head: { ...own, sequence: own.sequence + 1 },
    start: { digest: newest, round, ordinal: 1, adapter },
    checkpoints: [],
    ancestor: newest,
    beforeGap: [],
    settings: [],
    receipts: [],
    removals: null,
  };
  store.jobs.setPlace(job, { priority: 3, afterJob: 'another job' });
  const { name } = run.context.stored;
  const place = new QueuePlace(store.jobs.byName(name)!, { store });
  catchUp(records, { from: 'peer', held: new Set() }, { ...run.context, place });
  expect(store.jobs.byName(name)).toMatchObject({ priority: 3, afterJob: null });
});
