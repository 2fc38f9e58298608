import { beforeAll, describe, expect, test } from 'vitest';
import type { RowLoss } from '../../../../lora/train/step.ts';
import { type Figures, messageBytes } from '../../../../protocol/messages.ts';
import { signMessage, verifyMessage } from '../../../../protocol/signing.ts';
import { verifyError } from '../../../../verify/errors.ts';
import type { CheckpointRecord } from '../../../../verify/record.ts';
import { type VerifyOptions, verifyRecord } from '../../../../verify/verify-job.ts';
import { ToySwarm } from '../../coordinator/toy-swarm.ts';
import { COORDINATOR } from '../../coordinator/world.ts';
import { forged, type KeptJob, keptOf, playedJob, recordOf, without } from '../forged-job.ts';
import { meterOf } from '../toy-meter.ts';

let kept: KeptJob;
/** A job with an update that was scored and left out of the merge, and with a late update. */
let mixed: KeptJob;

beforeAll(async () => {
  ({ kept } = await playedJob());
  const swarm = new ToySwarm(['honest', 'honest', 'honest', 'honest', 'flip']);
  await swarm.play(await swarm.start(), 3);
  mixed = keptOf(swarm);
});

const verify = (job: KeptJob, options: VerifyOptions = {}) => verifyRecord(recordOf(job), options);

/** Changes the figures of the first update of the newest merge. */
function changed(job: KeptJob, change: (update: Figures['updates'][number]) => object): KeptJob {
  return forged(job, {
    figures: ({ updates }) => ({
      updates: updates.map((one, i) => (i === 0 ? { ...one, ...change(one) } : one)),
    }),
  });
}

const figuresOf = ({ records }: KeptJob): Figures =>
  verifyMessage('figures', records.at(-1)!.figures!).message;

describe('scores that are measured again', () => {
  test('equal those of an honest coordinator, also of updates that were not merged', async () => {
    const { problems, checkpoints } = await verify(mixed, { scores: meterOf(mixed) });
    expect(problems).toEqual([]);
    const newest = checkpoints.at(-1)!;
    expect(newest.scores).toMatchObject({ effects: 5, gains: 5 });
    expect(newest.scores!.difference).toBeLessThan(1e-6);
    expect(newest.checked).toEqual(expect.arrayContaining(['shares', 'scores']));
  });

  test('name the update whose effect or gain the coordinator invented', async () => {
    const [{ peer, score }] = figuresOf(kept).updates as [Figures['updates'][number]];
    const lies = [{ effect: score!.effect + 0.5 }, { gain: score!.gain + 0.5 }, { effectError: 0.5 }];
    for (const lie of lies) {
      const job = changed(kept, (update) => ({ score: { ...update.score!, ...lie } }));
      const { problems } = await verify(job, { scores: meterOf(kept) });
      const measured = problems.filter(({ code }) => code === 'VERIFY_SCORES');
      expect(measured.map(({ values }) => values)).toEqual([
        expect.objectContaining({ peer, figure: Object.keys(lie)[0], round: 3 }),
      ]);
    }
  });

  test('cover the effects of all updates, and the gains of the chosen ones', async () => {
    const [{ peer }] = figuresOf(kept).updates as [Figures['updates'][number]];
    const scores = meterOf(kept, { isChosen: (update) => update.peer === peer });
    const { checkpoints, ok } = await verify(kept, { scores });
    expect(ok).toBe(true);
    expect(checkpoints.at(-1)!.scores).toMatchObject({ effects: 3, gains: 1 });
    expect(checkpoints.at(-1)!.unchecked).toContainEqual(
      expect.objectContaining({ check: 'scores', reason: expect.stringContaining('1') }),
    );
  });

  test('are skipped without a payload, and if the meter fails', async () => {
    const gone = without(mixed, [figuresOf(mixed).updates.find(({ harmful }) => harmful)!.update]);
    const failing = meterOf(kept, {
      gradient: async () => {
        throw verifyError('SCORES_UNMEASURED', 'the device was lost');
      },
    });
    for (const [job, scores, reason] of [
      [gone, meterOf(mixed), 'payload'],
      [kept, failing, 'device'],
    ] as const) {
      const { ok, checkpoints } = await verify(job, { scores });
      expect(ok).toBe(true);
      const { checked, unchecked } = checkpoints.at(-1)!;
      expect(checked).not.toContain('scores');
      expect(unchecked).toContainEqual({ check: 'scores', reason: expect.stringContaining(reason) });
    }
  });
});

describe('a late update', () => {
  /** A job whose second merge could take an update of the first round, from an honest node or one that flips signs. */
  async function lateJob(behaviour: 'honest' | 'flip'): Promise<KeptJob> {
    const swarm = new ToySwarm(['honest', 'honest', 'honest', behaviour], {
      namesCoordinator: true,
      rounds: { minPeers: 3, count: 2, quorum: 0.75 },
    });
    const head = await swarm.start();
    const { world, peers } = swarm;
    const merged = (round: number) =>
      world.until(() => world.run.record.checkpoint.checkpoint.round === round, `checkpoint ${round}`);
    await swarm.deliver(head, peers.slice(0, -1));
    await merged(1);
    for (const peer of peers) await peer.heartbeat('awaiting');
    await swarm.deliver(head, peers.slice(-1));
    await swarm.deliver(await peers[0]!.head(), peers.slice(0, -1));
    await merged(2);
    return keptOf(swarm);
  }

  const changedLate = (job: KeptJob, change: (update: Figures['updates'][number]) => object): KeptJob =>
    forged(job, {
      figures: ({ updates }) => ({
        updates: updates.map((one) => (one.late === null ? one : { ...one, ...change(one) })),
      }),
    });

  test.each(['honest', 'flip'] as const)(
    'of a node that is %s is judged by its published effect',
    async (behaviour) => {
      const job = await lateJob(behaviour);
      const { problems, checkpoints } = await verify(job, { scores: meterOf(job) });
      expect(problems).toEqual([]);
      expect(checkpoints.at(-1)!.scores).toMatchObject({ effects: 4, gains: 3 });
      const late = figuresOf(job).updates.find((one) => one.late)!;
      expect(late).toMatchObject({ round: 1, share: null, harmful: behaviour === 'flip' });

      const other = changedLate(job, ({ late }) => ({ late: { ...late!, effect: late!.effect * 1.5 } }));
      const measured = await verify(other, { scores: meterOf(job) });
      expect(measured.problems).toMatchObject([
        { code: 'VERIFY_SCORES', values: { peer: late.peer, made: 1, figure: 'late' } },
      ]);
      const wrong = await verify(changedLate(job, ({ harmful }) => ({ harmful: !harmful })));
      expect(wrong.problems.map(({ code }) => code)).toContain('VERIFY_FIGURES');
    },
  );
});

test('the scores of a null round are part of the record, and a changed share in them is found', async () => {
  let isWorse = false;
  const losses = (adapter: readonly Float32Array[]): RowLoss[] => {
    const loss = adapter.flatMap((tensor) => [...tensor]).reduce((sum, value) => sum + value * value, 1);
    return [0, 1, 2, 3].map((i) => ({ lossSum: 8 * (loss + i / 100 + (isWorse ? 10 : 0)), tokens: 8 }));
  };
  const swarm = new ToySwarm(['honest', 'honest', 'honest'], { namesCoordinator: true, losses });
  await swarm.play(await swarm.start(), 1);
  const { world, peers } = swarm;
  isWorse = true;
  await swarm.deliver(await peers[0]!.head());
  await world.until(() => world.run.driver.state.round === 3, 'round 3');
  isWorse = false;
  for (const peer of peers) await peer.heartbeat('awaiting');
  await swarm.play(await peers[0]!.head(), 3);
  const job = keptOf(swarm);
  const { checkpoints, problems } = await verify(job, { scores: meterOf(job) });
  expect(problems).toEqual([]);
  expect(checkpoints.map(({ round }) => round)).toEqual([0, 1, 3]);
  const last = job.records.at(-1)!;
  expect(checkpoints.at(-1)!.unchecked.map(({ check }) => check)).not.toContain('shares');
  const { message: figures } = verifyMessage('figures', last.nullFigures![0]!);
  expect(figures.round).toBe(2);
  const updates = figures.updates.map((one) => ({ ...one, share: 0.01 }));
  const nullFigures = [signMessage('figures', { ...figures, updates }, COORDINATOR)];
  const lie = { ...job, records: [...job.records.slice(0, -1), { ...last, nullFigures }] };
  const found = await verify(lie);
  expect(new Set(found.problems.map(({ code }) => code))).toEqual(new Set(['VERIFY_FIGURES']));
  // The shares in the figures of the null round do not follow from its scores. The figures of the next merge name other
  // shares for this round.
  expect(found.problems.map(({ values }) => values.merge)).toContain(2);
});

describe('shares and beliefs', () => {
  test('that do not follow from the signed figures disprove the coordinator, without data', async () => {
    const changes = [
      (one: Figures['updates'][number]) => ({ share: one.share! / 2 }),
      (one: Figures['updates'][number]) => ({ belief: Math.min(1, one.belief + 1 / 256) }),
      (one: Figures['updates'][number]) => ({ score: { ...one.score!, effect: 3 * one.score!.effect } }),
    ];
    for (const change of changes) {
      const { problems } = await verify(changed(kept, change));
      expect(new Set(problems.map(({ code }) => code))).toEqual(new Set(['VERIFY_FIGURES']));
    }
  });

  test('that use other shares than earlier figures have disprove the coordinator', async () => {
    const job = changed(kept, ({ earlier }) => ({ earlier: earlier!.slice(0, 1) }));
    const codes = (await verify(job)).problems.map(({ code, values }) => [code, values.merge]);
    expect(codes).toContainEqual(['VERIFY_FIGURES', 1]);
    const raised = changed(kept, ({ earlier: [first, second] = [] }) => ({
      earlier: [{ ...first!, share: 1 - first!.share / 2 }, second],
    }));
    const { problems } = await verify(raised);
    expect(problems.map(({ values }) => values.merge)).toContain(2);
  });

  test('of scores without a seed disprove the coordinator, and so do repeated earlier shares', async () => {
    const { problems, ok } = await verify(forged(kept, { figures: () => ({ seed: null }) }));
    expect([ok, problems.map(({ code }) => code)]).toEqual([false, ['VERIFY_FIGURES']]);
    const repeated = changed(kept, ({ earlier }) => ({ earlier: [earlier![0]!, earlier![0]!] }));
    const found = await verify(repeated);
    expect(found.problems).toMatchObject([
      { code: 'VERIFY_FIGURES', values: { peer: expect.any(String), scored: 3 } },
    ]);
  });

  test('that follow from figures that cannot be checked are not checked either', async () => {
    const [, , before, newest] = kept.records as [unknown, unknown, CheckpointRecord, CheckpointRecord];
    const { rules: _, ...old } = verifyMessage('figures', before.figures!).message;
    const changedRecord = { ...before, figures: signMessage('figures', old, COORDINATOR) };
    const { ok, checkpoints } = await verify({
      ...kept,
      records: [...kept.records.slice(0, 2), changedRecord, newest],
    });
    expect(ok).toBe(true);
    expect(checkpoints.at(-1)!.unchecked).toContainEqual({
      check: 'shares',
      reason: expect.any(String),
    });
  });

  test('of an older version, or of unknown rules, are not checked', async () => {
    const { rules: _, ...old } = figuresOf(changed(kept, () => ({ share: 0.5 })));
    for (const figures of [old, { ...old, rules: 99 }]) {
      const record = { ...kept.records.at(-1)!, figures: signMessage('figures', figures, COORDINATOR) };
      const job = { ...kept, records: [...kept.records.slice(0, -1), record] };
      const { ok, checkpoints } = await verify(job, { scores: meterOf(kept) });
      expect(ok).toBe(true);
      const unchecked = checkpoints.at(-1)!.unchecked.map(({ check }) => check);
      expect(unchecked).toEqual(expect.arrayContaining(['shares', 'scores']));
    }
  });
});

test('the figures of the largest merge fit into a message', () => {
  const figures = figuresOf(kept);
  const [update] = figures.updates as [Figures['updates'][number]];
  const [share] = update.earlier as [NonNullable<typeof update.earlier>[number]];
  const long = { ...share, merge: 2 ** 31, round: 2 ** 31 };
  const largest = {
    ...update,
    score: { ...update.score!, exact: Math.PI },
    late: { effect: Math.PI, effectError: Math.E },
    earlier: [long, long, long],
    audit: { closeness: Math.PI, balance: Math.E, passed: true, decidedRound: 2 ** 31 },
  };
  const full = { ...figures, updates: Array(512).fill(largest) as Figures['updates'] };
  const bytes = signMessage('figures', full, COORDINATOR);
  expect(bytes.byteLength).toBeLessThan(messageBytes.figures);
  expect(bytes.byteLength).toBeGreaterThan(messageBytes.figures / 2);
});
