import { beforeAll, describe, expect, test } from 'vitest';
import { adapterError } from '../../../lora/adapter/errors.ts';
import { sha256 } from '../../../protocol/cbor.ts';
import { decodeEvidence, keepEvidence } from '../../../protocol/evidence.ts';
import { OUTER_RATE_FRACTIONS } from '../../../protocol/job/outer-rates.ts';
import type { Checkpoint, Head, Receipt, Update } from '../../../protocol/messages.ts';
import { signerFromSeed, signMessage, verifyMessage } from '../../../protocol/signing.ts';
import { LOSS_TOLERANCE, type LossMeter } from '../../../verify/checks/losses.ts';
import { type ProblemCode, verifyError } from '../../../verify/errors.ts';
import type { CheckpointRecord } from '../../../verify/record.ts';
import { verifyRecord } from '../../../verify/verify-job.ts';
import { withCode } from '../../utils/source/codes.ts';
import type { ScriptedPeer } from '../coordinator/scripted-peer.ts';
import { ToySwarm } from '../coordinator/toy-swarm.ts';
import { COORDINATOR } from '../coordinator/world.ts';
import {
  type Forgery,
  flipped,
  forged,
  type KeptJob,
  keptOf,
  playedJob,
  recordOf,
  without,
} from './forged-job.ts';

let kept: KeptJob;
let last: Checkpoint;
let peers: ScriptedPeer[];

beforeAll(async () => {
  const played = await playedJob();
  ({ kept } = played);
  ({ peers } = played.swarm);
  last = verifyMessage('checkpoint', kept.records.at(-1)!.checkpoint).message;
});

const payloads = (): string[] => last.contributors.map(({ update }) => update);

/** Returns the codes of the problems of a job, without repetitions. */
async function codesOf(job: KeptJob): Promise<ProblemCode[]> {
  const { ok, problems } = await verifyRecord(recordOf(job));
  expect(ok).toBe(problems.length === 0);
  return [...new Set(problems.map(({ code }) => code))];
}

describe('the verification of an honest job', () => {
  test('finds no problem, computes every merge again, and says what it could not check', async () => {
    const seen: number[] = [];
    const report = await verifyRecord(recordOf(kept), { onCheckpoint: ({ round }) => seen.push(round) });
    expect(report.problems).toEqual([]);
    expect(report).toMatchObject({ ok: true, name: 'toy', recomputed: 3 });
    expect(seen).toEqual([0, 1, 2, 3]);
    const [first, , , newest] = report.checkpoints;
    expect(first!.checked).toEqual(['signature', 'chain', 'settings', 'adapter']);
    expect(new Set(newest!.checked)).toEqual(
      new Set([
        ...['signature', 'chain', 'settings', 'contributors', 'receipts'],
        ...['figures', 'shares', 'weights', 'metrics', 'merge', 'heads'],
      ]),
    );
    expect(newest!.unchecked.map(({ check }) => check)).toEqual(['weights', 'scores', 'loss']);
  });

  test('begins at a round, and says that the residual before it is not proven', async () => {
    const report = await verifyRecord(recordOf(kept), { from: 3 });
    expect(report).toMatchObject({ ok: true, recomputed: 1, problems: [] });
    expect(report.checkpoints.map(({ round }) => round)).toEqual([3]);
    expect(report.checkpoints[0]!.unchecked).toContainEqual({
      check: 'merge',
      reason: expect.stringContaining('residual'),
    });
  });

  test('checks deltas where payloads are gone, and adapters where deltas are gone', async () => {
    const noPayloads = await verifyRecord(recordOf(without(kept, payloads())));
    expect(noPayloads).toMatchObject({ ok: true, recomputed: 2 });
    const { checked, unchecked } = noPayloads.checkpoints.at(-1)!;
    expect(checked).toContain('adapter');
    expect(checked).not.toContain('merge');
    expect(unchecked.map(({ check }) => check)).toContain('contributors');
    const noDelta = await verifyRecord(recordOf(without(kept, [...payloads(), last.delta!.digest])));
    expect(noDelta).toMatchObject({ ok: true, recomputed: 2 });
    const nothing = await verifyRecord(recordOf({ ...kept, blobs: new Map() }));
    expect(nothing).toMatchObject({ ok: true, recomputed: 0 });
  });

  test('finds nothing wrong if the job has not reached the first round to check', async () => {
    await expect(verifyRecord(recordOf(kept), { from: 4 })).rejects.toMatchObject({
      ...{ code: 'ROUND_UNKNOWN', kind: 'notFound' },
      values: { from: 4, newest: 3 },
    });
  });

  test('does not compute a merge again if the source does not name the residual before it', async () => {
    const records = kept.records.map((record) => ({ ...record, residual: null }));
    const report = await verifyRecord(recordOf({ ...kept, records }), { from: 3 });
    expect(report).toMatchObject({ ok: true, recomputed: 0, problems: [] });
    const { checked, unchecked } = report.checkpoints[0]!;
    expect(checked).toContain('adapter');
    expect(unchecked).toContainEqual({ check: 'merge', reason: expect.stringContaining('residual') });
  });

  test('finds no problem if the coordinator lost a residual and replaced it by zeros', async () => {
    const lossy = new ToySwarm(['honest', 'honest', 'honest']);
    const { world } = lossy;
    const head = await lossy.start();
    await lossy.play(head, 2);
    world.disk.files.delete(world.run.record.checkpoint.residual!);
    await lossy.play(world.run.record.heads.newest.head, 3);
    const report = await verifyRecord(recordOf(keptOf(lossy)));
    expect(report).toMatchObject({ ok: true, recomputed: 3, problems: [] });
    expect(report.checkpoints.at(-1)!.unchecked).toContainEqual({
      check: 'merge',
      reason: expect.stringContaining('zeros'),
    });
  });

  test('refuses a record of another job', async () => {
    await expect(verifyRecord(recordOf(kept), { job: 'ab'.repeat(32) })).rejects.toThrow(
      withCode('JOB_DIFFERS'),
    );
  });
});

describe('held-out losses', () => {
  /** Verifies the job with a meter that measures the published losses times a factor, or no loss. */
  const verified = (factor: number | null, job = kept) => {
    const published = new Map(
      kept.records.map(({ checkpoint }) => {
        const { adapter, metrics } = verifyMessage('checkpoint', checkpoint).message;
        return [adapter.digest, metrics.heldOutLoss];
      }),
    );
    const losses: LossMeter = {
      measure: async (_, adapter) => factor && factor * published.get(sha256(adapter))!,
    };
    return verifyRecord(recordOf(job), { losses });
  };

  test('are compared with the losses that this machine measures, in each checkpoint', async () => {
    const { ok, checkpoints } = await verified(1 + LOSS_TOLERANCE / 2);
    expect(ok).toBe(true);
    for (const { checked, unchecked, loss } of checkpoints) {
      expect(checked).toContain('loss');
      expect(unchecked.map(({ check }) => check)).not.toContain('loss');
      expect(loss!.measured! / loss!.published).toBeCloseTo(1 + LOSS_TOLERANCE / 2, 6);
    }
  });

  test('are a problem if they differ by more than the tolerance, which no signature proves', async () => {
    const { problems } = await verified(1 - 2 * LOSS_TOLERANCE);
    expect(problems.map(({ code, round }) => [code, round])).toEqual(
      [0, 1, 2, 3].map((round) => ['VERIFY_LOSS', round]),
    );
    expect(verifyError('VERIFY_LOSS', '')).toMatchObject({ kind: 'failed' });
    expect((await verified(Number.NaN)).ok).toBe(false);
    expect((await verified(null)).problems[0]).toMatchObject({
      code: 'VERIFY_LOSS',
      values: { measured: null },
    });
  });

  test('of a malformed adapter are a problem, and do not hide a proof of another check', async () => {
    const measure = async () => {
      throw adapterError('ADAPTER_TENSORS', 'the adapter has other tensors');
    };
    const job = forged(kept, { receipt: () => ({ code: 'harmful' }) });
    const { problems } = await verifyRecord(recordOf(job), { losses: { measure } });
    expect(new Set(problems.map(({ code }) => code))).toEqual(new Set(['VERIFY_RECEIPT', 'VERIFY_SOURCE']));
  });

  test('of a checkpoint whose adapter is gone are not checked, and the report says so', async () => {
    const { digest } = last.adapter;
    const gone = without(kept, [digest, last.delta!.digest, ...payloads()]);
    const { ok, checkpoints } = await verified(1, gone);
    expect(ok).toBe(true);
    const reason = expect.stringContaining('adapter');
    expect(checkpoints.at(-1)!.unchecked).toContainEqual({ check: 'loss', reason });
  });
});

describe('the record of a forger', () => {
  const FORGER = signerFromSeed(new Uint8Array(32).fill(77));

  test('is refused if its manifest names another coordinator', async () => {
    const manifest = signMessage('manifest', verifyMessage('manifest', kept.manifest).message, FORGER);
    await expect(verifyRecord(recordOf({ ...kept, manifest }))).rejects.toThrow(
      withCode('SIGNATURE_INVALID'),
    );
  });

  test('is refused for an older job, whose manifest names no coordinator, if the caller knows the peer id', async () => {
    const { coordinator: _, ...older } = verifyMessage('manifest', kept.manifest).message;
    const manifest = signMessage('manifest', older, FORGER);
    const record = recordOf({ ...kept, manifest });
    expect(await verifyRecord(record)).toMatchObject({ coordinator: FORGER.peerId, namesCoordinator: false });
    await expect(verifyRecord(record, { coordinator: COORDINATOR.peerId })).rejects.toThrow(
      withCode('COORDINATOR_DIFFERS'),
    );
  });
});

describe('the verification finds', () => {
  const weightOf = (factor: number) => (checkpoint: Checkpoint) => ({
    contributors: checkpoint.contributors.map((one, i) =>
      i === 0 ? { ...one, weight: Math.fround(factor * one.weight) } : one,
    ),
  });
  const cases: [string, ProblemCode, Forgery][] = [
    ['another base', 'VERIFY_CHAIN', { checkpoint: () => ({ base: 'ff'.repeat(32) }) }],
    [
      'settings that were never announced',
      'VERIFY_SOURCE',
      { checkpoint: () => ({ settings: 'ff'.repeat(32) }) },
    ],
    [
      'a head that names other updates',
      'VERIFY_HEAD',
      { head: ({ included }) => ({ included: included.slice(1) }) },
    ],
    [
      'a head with another ordinal',
      'VERIFY_HEAD',
      { head: ({ checkpoint }) => ({ checkpoint: { ...checkpoint, ordinal: 7 } }) },
    ],
    ['a merged update that was refused', 'VERIFY_RECEIPT', { receipt: () => ({ code: 'harmful' }) }],
    ['a receipt for another peer', 'VERIFY_RECEIPT', { receipt: ({ round }) => ({ round: round + 1 }) }],
    [
      'a train loss that the signed updates do not give',
      'VERIFY_SOURCE',
      { checkpoint: ({ metrics }) => ({ metrics: { ...metrics, trainLoss: 0.5 } }) },
    ],
    ['weights that give another merge', 'VERIFY_MERGE', { checkpoint: weightOf(0.5) }],
    [
      'an adapter that is not the merge',
      'VERIFY_MERGE',
      { checkpoint: ({ adapter }) => ({ adapter: { ...adapter, digest: 'ff'.repeat(32) } }) },
    ],
    [
      'a drift that the updates do not have',
      'VERIFY_MERGE',
      { checkpoint: ({ metrics }) => ({ metrics: { ...metrics, drift: 0.5 } }) },
    ],
    [
      'scores of a harmful contributor',
      'VERIFY_FIGURES',
      { figures: ({ updates }) => ({ updates: updates.map((one) => ({ ...one, harmful: true })) }) },
    ],
    ['scores of another parent', 'VERIFY_FIGURES', { figures: () => ({ parent: 'ff'.repeat(32) }) }],
    [
      'a roll-back to an adapter that never was',
      'VERIFY_ROLLBACK',
      {
        checkpoint: ({ adapter }) => ({
          contributors: [],
          delta: null,
          adapter: { ...adapter, digest: 'ff'.repeat(32) },
        }),
      },
    ],
  ];
  test.each(cases)('%s: %s', async (_what, code, forgery) => {
    expect(await codesOf(forged(kept, forgery))).toEqual([code]);
  });

  test('no wrong rate in a merge at a rate of the gate, but one in a merge at another rate', async () => {
    const codesAt = (fraction: number) =>
      codesOf(
        forged(kept, {
          checkpoint: ({ metrics }) => ({
            metrics: { ...metrics, outerRate: metrics.outerRate * fraction },
          }),
        }),
      );
    expect(await codesAt(OUTER_RATE_FRACTIONS.whole)).toEqual([]);
    for (const fraction of [OUTER_RATE_FRACTIONS.half, OUTER_RATE_FRACTIONS.quarter])
      expect(await codesAt(fraction)).toEqual(['VERIFY_MERGE']);
    expect(await codesAt(1 / 8)).toContain('VERIFY_METRICS');
  });

  test('nothing in a forgery that changes nothing', async () => {
    expect(await codesOf(forged(kept, {}))).toEqual([]);
  });

  test('a weight above what the tokens allow', async () => {
    const lost = without(kept, [...payloads(), last.delta!.digest]);
    expect(await codesOf(forged(lost, { checkpoint: weightOf(10) }))).toEqual(['VERIFY_WEIGHT']);
  });

  test('an unreadable checkpoint, and one that another key signed', async () => {
    const records = [...kept.records];
    const middle = records[2]!;
    records[2] = { ...middle, checkpoint: flipped(middle.checkpoint) };
    expect(await codesOf({ ...kept, records })).toEqual(['VERIFY_SIGNATURE']);
  });

  test('a checkpoint that is missing in the middle, or at the beginning', async () => {
    const gap = kept.records.filter((_, i) => i !== 2);
    for (const records of [gap, kept.records.slice(1), [kept.records[0]!, ...kept.records], []]) {
      expect(await codesOf({ ...kept, records })).toEqual(['VERIFY_SOURCE']);
    }
  });

  test('an update that its author did not sign', async () => {
    const forgery: Forgery = {
      proofs: ([first, ...others]) => [{ ...first!, evidence: flipped(first!.evidence!, 300) }, ...others],
    };
    expect(await codesOf(forged(kept, forgery))).toEqual(['VERIFY_SOURCE']);
  });

  test('an update that is already in an earlier merge', async () => {
    const before = kept.records.at(-2)!;
    const [old] = verifyMessage('checkpoint', before.checkpoint).message.contributors;
    const forgery: Forgery = {
      checkpoint: ({ contributors }) => ({ contributors: [old!, ...contributors.slice(1)] }),
      proofs: ([, ...others]) => [before.proofs[0]!, ...others],
    };
    const { problems } = await verifyRecord(recordOf(forged(kept, forgery)));
    expect(problems[0]).toMatchObject({ code: 'VERIFY_CONTRIBUTOR', values: { before: 2 } });
  });

  test('changes of the settings that do not continue each other', async () => {
    const { job, term } = last;
    const values = { learningRate: 0.1, count: 9, minPeers: 1, maxSeconds: 60 };
    const change = { job, term, sequence: 2, previous: null, fromRound: 9, values, reason: '', issuedAt: 0 };
    expect(await codesOf(forged(kept, { settings: [change] }))).toEqual(['VERIFY_SOURCE']);
  });

  test('a damaged blob, which proves nothing against the coordinator', async () => {
    const [digest] = payloads();
    const blobs = new Map(kept.blobs);
    blobs.set(digest!, flipped(blobs.get(digest!)!));
    expect(await codesOf({ ...kept, blobs })).toEqual(['VERIFY_BLOB']);
  });
});

describe('parts of a record that its source chooses prove nothing against the coordinator', () => {
  /** Returns a job in which the source changed the record at a place. */
  const changed = (at: number, change: (record: CheckpointRecord) => Partial<CheckpointRecord>): KeptJob => ({
    ...kept,
    records: kept.records.map((record, i) => (i === at ? { ...record, ...change(record) } : record)),
  });
  const [first, second] = [1, 2];
  const cases: [string, () => KeptJob, number | undefined][] = [
    ['another residual', () => changed(second, () => ({ residual: 'ab'.repeat(32) })), undefined],
    [
      'the residual of an earlier merge',
      () => changed(second, () => ({ residual: kept.records[first]!.residual })),
      3,
    ],
    [
      'scores of another round',
      () => changed(3, () => ({ figures: kept.records[second]!.figures })),
      undefined,
    ],
    [
      'proofs of another round',
      () => changed(3, () => ({ proofs: kept.records[second]!.proofs })),
      undefined,
    ],
    [
      'proofs in another order',
      () => changed(3, ({ proofs }) => ({ proofs: [...proofs].reverse() })),
      undefined,
    ],
    [
      'a head of another checkpoint',
      () => changed(first, () => ({ heads: kept.records[3]!.heads })),
      undefined,
    ],
    [
      'scores of the same round in another term',
      () =>
        changed(3, ({ figures }) => {
          const { message } = verifyMessage('figures', figures!);
          const lost = { ...message, term: message.term + 1, parent: 'ab'.repeat(32) };
          return { figures: signMessage('figures', lost, COORDINATOR) };
        }),
      undefined,
    ],
    [
      'a head of the same round in another term',
      () =>
        changed(3, ({ heads }) => {
          const { message } = verifyMessage('head', heads[0]!);
          const checkpoint = { ...message.checkpoint, digest: 'ab'.repeat(32) };
          const lost = { ...message, term: message.term + 1, checkpoint };
          return { heads: [signMessage('head', lost, COORDINATOR)] };
        }),
      undefined,
    ],
    [
      'two checkpoints of one round, which a restored coordinator signed in different terms',
      () => {
        const again = { ...last, term: last.term + 1, metrics: { ...last.metrics, seconds: 1 } };
        const envelope = signMessage('checkpoint', again, COORDINATOR);
        const record = { ...kept.records.at(-1)!, checkpoint: envelope, heads: [], figures: null };
        return { ...kept, records: [...kept.records, record] };
      },
      undefined,
    ],
    [
      'an unreadable receipt',
      () =>
        changed(3, ({ proofs }) => ({
          proofs: proofs.map((one) => ({ ...one!, receipt: flipped(one!.receipt!) })),
        })),
      undefined,
    ],
  ];
  test.each(cases)('%s', async (_what, job, from) => {
    const { ok, problems } = await verifyRecord(recordOf(job()), from === undefined ? {} : { from });
    expect(ok).toBe(false);
    expect([...new Set(problems.map(({ code }) => code))]).toEqual(['VERIFY_SOURCE']);
    expect(verifyError('VERIFY_SOURCE', '')).toMatchObject({ kind: 'failed' });
  });

  const lies: [string, Partial<Update>][] = [
    ['other tokens', { tokens: 1 }],
    ['another train loss', { lossLast: 99 }],
    ['other rows', { start: 1_000, end: 1_004 }],
    ['another parent', { parent: 'ab'.repeat(32) }],
    ['another size', { payload: { digest: '', size: 7 } }],
    ['another preset', { preset: 'tiny' }],
  ];
  test.each(lies)(
    'a second update with the same payload that an accomplice signed, with %s',
    async (_, lie) => {
      const job = changed(3, ({ proofs }) => {
        const { author, update } = decodeEvidence(proofs[0]!.evidence!);
        const { signer } = peers.find(({ id }) => id === author)!;
        const { digest } = update.payload;
        const second = {
          ...update,
          ...lie,
          payload: { ...update.payload, ...lie.payload, digest },
          inline: null,
        };
        const evidence = keepEvidence(signMessage('update', second, signer));
        return { proofs: [{ ...proofs[0]!, evidence }, ...proofs.slice(1)] };
      });
      const { ok, problems } = await verifyRecord(recordOf(job));
      expect(ok).toBe(false);
      expect([...new Set(problems.map(({ code }) => code))]).toEqual(['VERIFY_SOURCE']);
    },
  );

  const receipts: [string, Partial<Receipt>][] = [
    ['for the same payload in another round', { round: 2 }],
    ['for an earlier, refused message with the same payload', { code: 'wrong-parent' }],
  ];
  test.each(receipts)('a receipt that the coordinator signed %s', async (_, receipt) => {
    const { problems } = await verifyRecord(recordOf(forged(kept, { receipt: () => receipt })));
    expect([...new Set(problems.map(({ code }) => code))]).toEqual(['VERIFY_RECEIPT']);
    expect(verifyError('VERIFY_RECEIPT', '')).toMatchObject({ kind: 'failed' });
  });

  test('a head from before a change of the settings of its round, which was not open yet', async () => {
    const { job, term } = last;
    const values = { learningRate: 0.1, count: 9, minPeers: 1, maxSeconds: 60 };
    const change = { job, term, sequence: 1, previous: null, fromRound: 4, values, reason: '', issuedAt: 0 };
    const headOf = (phase: Head['phase']) =>
      codesOf(forged(kept, { settings: [change], head: () => ({ phase, round: 4, assignments: [] }) }));
    expect(await headOf('waiting')).toEqual([]);
    expect(await headOf('training')).toEqual(['VERIFY_SETTINGS']);
  });

  test('evidence whose payload was left out is not compared', async () => {
    const { evidence } = kept.records[second]!.proofs[0]!;
    const job = changed(3, ({ proofs }) => ({ proofs: [{ ...proofs[0]!, evidence }, ...proofs.slice(1)] }));
    expect(await codesOf({ ...job, blobs: new Map() })).toEqual([]);
  });
});
