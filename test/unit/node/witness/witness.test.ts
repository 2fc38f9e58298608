import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { beforeAll, expect, test } from 'vitest';
import { systemClock } from '../../../../common/time/system-clock.ts';
import { silentLogger } from '../../../../monitor/logs/log.ts';
import type { SwarmNetwork } from '../../../../net/network.ts';
import type { JobContext } from '../../../../node/jobs/context.ts';
import { Pauses } from '../../../../node/limits/pauses.ts';
import type { NodeState } from '../../../../node/machine/state.ts';
import { KEPT_PROOFS, proofBytes } from '../../../../node/witness/proofs.ts';
import { Witness } from '../../../../node/witness/witness.ts';
import { verificationBytes } from '../../../../node/witness/witness-memory.ts';
import { signerFromSeed, verifyMessage } from '../../../../protocol/signing.ts';
import { FileBlobStore } from '../../../../storage/blob-store.ts';
import { verifyBundle } from '../../../../verify/bundle/verify-bundle.ts';
import type { ScoreTask } from '../../../../verify/process/messages.ts';
import { eventually } from '../../../utils/eventually.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { COORDINATOR } from '../../coordinator/world.ts';
import { forged, type KeptJob, playedJob, signedAgain } from '../../verify/forged-job.ts';
import { meterOf } from '../../verify/toy-meter.ts';

let kept: KeptJob;
/** The job of another coordinator. */
let slow: KeptJob;
const SLOW = signerFromSeed(new Uint8Array(32).fill(91));

beforeAll(async () => {
  ({ kept } = await playedJob());
  slow = signedAgain((await playedJob({ namesCoordinator: false })).kept, SLOW);
});

interface Setup {
  /** Jobs of other coordinators that the node has too, by the peer id of the coordinator. */
  others?: Readonly<Record<string, KeptJob>>;
  /** Whether the coordinator has supplied each blob that the node has. */
  supplied?: boolean;
  spare?: number;
  spareMemory?: number;
  /** Whether the witness measures scores. */
  measures?: boolean;
}

/** A witness of a node whose coordinator answers from the record of a job, up to its newest checkpoint. */
async function witnessOf({
  others = {},
  supplied = false,
  spare = 1e9,
  spareMemory = 1e9,
  measures = false,
}: Setup = {}) {
  const home = await temporaryFolder();
  const deps = { clock: systemClock };
  const blobs = await FileBlobStore.open({ home }, deps);
  const found: Record<string, unknown>[] = [];
  const failed: Record<string, unknown>[] = [];
  const calls: string[] = [];
  const keptRounds: number[] = [];
  const pauses = new Pauses();
  let running = 0;
  /** Durations of the measurements of scores. */
  const measured: number[] = [];
  const verifications = { most: 0, rounds: [] as number[] };
  const jobs: Record<string, KeptJob> = { ...others, [COORDINATOR.peerId]: kept };
  const headOf = (job: KeptJob) => verifyMessage('head', job.records.at(-1)!.heads[0]!).message;
  const answer = (peer: string, method: string, { ordinal, round }: { ordinal: number; round: number }) => {
    const shown = jobs[peer]!;
    if (method === 'manifest') {
      return { manifest: shown.manifest, head: (heads[peer] ?? shown).records.at(-1)!.heads[0] };
    }
    if (method === 'figures') return { figures: shown.records[round]?.figures ?? null };
    const { checkpoint, proofs, residual: digest } = shown.records[ordinal] ?? shown.records.at(-1)!;
    const residual = digest && { digest, size: shown.blobs.get(digest)!.byteLength };
    return { checkpoint, proofs, residual };
  };
  /** By the peer id of a coordinator: the job whose head it gives, if this is not the head that the node has. */
  const heads: Record<string, KeptJob> = {};
  /**
   * Functions that delay something: by the peer id of a coordinator its answers, `blobs` the fetches of blobs, and `verify`
   * the verifications.
   */
  const gates: Record<string, (signal: AbortSignal) => Promise<void>> = {};
  const network = {
    request: async (peer: string, method: string, body: never, { signal }: { signal: AbortSignal }) => {
      calls.push(method);
      await gates[peer]?.(signal);
      return answer(peer, method, body);
    },
    fetchBlob: async (
      { digest }: { digest: string },
      { holders: [peer], into, signal }: { holders: string[]; into: FileBlobStore; signal: AbortSignal },
    ) => {
      calls.push(digest);
      await gates.blobs?.(signal);
      await into.put(jobs[peer!]!.blobs.get(digest)!);
    },
  } as unknown as SwarmNetwork;
  const logTo = (list: Record<string, unknown>[]) => (fields: object) => void list.push({ ...fields });
  const witness = new Witness(
    { home },
    {
      ...{ network, blobs, pauses, ...deps },
      log: { ...silentLogger, error: logTo(found), warn: logTo(failed) } as typeof silentLogger,
      isFrom: () => supplied,
      spareBytes: async () => spare,
      spareMemory: () => spareMemory,
      keep: (_job, { round }) => void keptRounds.push(round),
      jobs: () =>
        Object.entries(jobs).map(([coordinator, job]) => {
          const { job: digest } = headOf(job);
          const context = { coordinator, job: digest, options: { invite: null } } as JobContext;
          return { context, state: { head: headOf(job) } as NodeState };
        }),
      scores: measures
        ? { prepare: async () => ({}) as ScoreTask, note: (ms) => void measured.push(ms) }
        : null,
      verify: async ({ file, job, from, scores }) => {
        verifications.most = Math.max(verifications.most, ++running);
        await gates.verify?.(new AbortController().signal);
        const meter = scores ? { scores: meterOf(kept) } : {};
        return verifyBundle(file, { job, from, ...meter }).finally(() => {
          running--;
          verifications.rounds.push(from);
        });
      },
    },
  );
  const look = async (job: KeptJob): Promise<void> => {
    jobs[COORDINATOR.peerId] = job;
    await witness.look();
  };
  const files = async (): Promise<string[]> =>
    (await readdir(join(home, 'witness'))).filter((name) => name.endsWith('.bundle'));
  const folder = join(home, 'witness');
  await mkdir(folder);
  return {
    look,
    witness,
    found,
    failed,
    calls,
    keptRounds,
    files,
    folder,
    blobs,
    pauses,
    gates,
    heads,
    verifications,
    measured,
    jobs,
  };
}

/** Rejects when a signal aborts. */
function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener('abort', () => reject(signal.reason));
  });
}

/** The job as it was when it had `count` checkpoints. */
function upTo(job: KeptJob, count: number): KeptJob {
  const records = job.records.slice(0, count);
  return count === job.records.length
    ? job
    : {
        ...forged(
          {
            ...job,
            records: [...records.slice(0, -1), { ...records.at(-1)!, heads: job.records.at(-1)!.heads }],
          },
          { head: ({ checkpoint }) => ({ checkpoint: { ...checkpoint, ordinal: count - 1 } }) },
        ),
      };
}

test('a witness verifies the newest checkpoint, and leaves no files if nothing is wrong', async () => {
  const { look, found, calls, files, keptRounds } = await witnessOf();
  await look(kept);
  expect([found, keptRounds]).toEqual([[], [3]]);
  expect(await files()).toEqual([]);
  expect(calls.slice(0, 2)).toEqual(['manifest', 'record']);
  const before = calls.length;
  await look(kept);
  expect(calls).toHaveLength(before);
});

test('a problem is logged with its proof, and the coordinator gets the same requests', async () => {
  const honest = await witnessOf();
  await honest.look(kept);
  const { look, found, calls, files, keptRounds } = await witnessOf();
  const lie = forged(kept, {
    checkpoint: ({ contributors }) => ({
      contributors: contributors.map((one) => ({
        ...one,
        weight: Math.fround(one.weight / (one === contributors[0] ? 2 : 1)),
      })),
    }),
  });
  await look(lie);
  expect(found).toMatchObject([
    { round: 3, code: 'VERIFY_SOURCE', reason: expect.stringContaining('residual') },
  ]);
  expect(calls).toEqual(honest.calls);
  // The record is kept too, so that the coordinator cannot find out the result by asking the node for it.
  expect(keptRounds).toEqual(honest.keptRounds);
  expect(await files()).toEqual([expect.stringMatching(/^[0-9a-f]{12}-round-3\.bundle$/)]);
  const proof = await verifyBundle(String(found[0]!.file), { from: 3 });
  expect(proof.problems[0]!.code).toBe('VERIFY_SOURCE');
});

test('a witness that measures scores names the update whose gain the coordinator invented', async () => {
  const honest = await witnessOf({ measures: true });
  for (const count of [2, 4]) await honest.look(upTo(kept, count));
  expect(honest.found).toEqual([]);
  expect(honest.measured).toHaveLength(3);
  const { look, found } = await witnessOf({ measures: true });
  let peer = '';
  const lie = forged(kept, {
    figures: ({ updates: [first, ...others] }) => {
      ({ peer } = first!);
      return {
        updates: [{ ...first!, score: { ...first!.score!, gain: first!.score!.gain + 1 } }, ...others],
      };
    },
  });
  await look(lie);
  const { problems } = await verifyBundle(String(found[0]!.file), { from: 3, scores: meterOf(kept) });
  expect(problems.filter(({ code }) => code === 'VERIFY_SCORES')).toMatchObject([
    { values: { peer, figure: 'gain' } },
  ]);
});

test('a share that contradicts the scores that the witness has seen before is a problem', async () => {
  const { look, found } = await witnessOf();
  await look(upTo(kept, 3));
  await look(
    forged(kept, {
      figures: ({ updates }) => ({
        updates: updates.map((one) => ({ ...one, earlier: one.earlier!.slice(0, 1) })),
      }),
    }),
  );
  expect(found).toMatchObject([{ round: 3, code: 'VERIFY_FIGURES' }]);
});

test('the node keeps few proofs against one job, and logs every problem', async () => {
  const { look, found, folder, files } = await witnessOf();
  const prefix = verifyMessage('manifest', kept.manifest).digest.slice(0, 12);
  for (let round = 10; round < 10 + KEPT_PROOFS; round++) {
    await writeFile(join(folder, `${prefix}-round-${round}.bundle`), '');
  }
  const before = await files();
  await look(forged(kept, { checkpoint: () => ({ base: 'ff'.repeat(32) }) }));
  expect(found).toMatchObject([
    { round: 3, file: null, reason: expect.stringContaining(`${KEPT_PROOFS} proofs`) },
  ]);
  expect(await files()).toEqual(before);
});

test('a checkpoint whose parent is not the one that was verified before is a problem', async () => {
  const { look, found } = await witnessOf();
  await look(upTo(kept, 3));
  expect(found).toEqual([]);
  const [first, second, , newest] = kept.records;
  const other = forged(
    { ...kept, records: [first!, second!, { ...kept.records[2]!, heads: newest!.heads }] },
    { checkpoint: ({ createdAt }) => ({ createdAt: createdAt + 1 }) },
  );
  const rewritten = { ...other.records.at(-1)!, heads: [] };
  const { digest } = verifyMessage('checkpoint', rewritten.checkpoint);
  await look(
    forged(
      { ...kept, records: [first!, second!, rewritten, newest!] },
      { checkpoint: () => ({ parent: digest }) },
    ),
  );
  expect(found).toMatchObject([{ round: 3, code: 'VERIFY_CHAIN' }]);
});

test('a coordinator that gives only an older head is reported once, and the node stops asking it', async () => {
  const { look, found, calls, heads } = await witnessOf();
  await look(upTo(kept, 3));
  heads[COORDINATOR.peerId] = upTo(kept, 3);
  await look(kept);
  expect(found).toMatchObject([
    { round: 3, code: 'VERIFY_SOURCE', reason: expect.stringMatching(/\bround 2\b.*\bround 3$/) },
  ]);
  const before = calls.length;
  await look(kept);
  expect(calls).toHaveLength(before);
});

test('a coordinator that does not answer delays no verification of another job', async () => {
  const { witness, verifications, gates } = await witnessOf({ others: { [SLOW.peerId]: slow } });
  gates[SLOW.peerId] = aborted;
  const looked = witness.look();
  await eventually(() => expect(verifications.rounds).toEqual([3]));
  // The stop ends the request to the coordinator that does not answer.
  await witness.stop();
  await looked;
});

test('one verification runs at a time', async () => {
  const { look, verifications, gates, folder } = await witnessOf({ others: { [SLOW.peerId]: slow } });
  const { promise: begin, resolve } = Promise.withResolvers<void>();
  gates.verify = () => begin;
  const looked = look(kept);
  // Keeps the first verification from ending until the other job's bundle is ready too.
  const ready = async () => {
    const names = await readdir(folder, { recursive: true });
    expect(names.filter((name) => name.endsWith('checking.bundle'))).toHaveLength(2);
  };
  await eventually(() => ready().then(() => true));
  await setTimeout(50);
  resolve();
  await looked;
  expect(verifications).toEqual({ most: 1, rounds: [3, 3] });
});

test('a paused node asks for nothing, and a pause ends a running fetch', async () => {
  const { look, calls, pauses, gates, failed, verifications } = await witnessOf();
  const paused = { reason: 'traffic', text: 'the traffic of the month is used up', until: null } as const;
  pauses.set(paused);
  await look(kept);
  expect(calls).toEqual([]);
  pauses.set(null);
  gates.blobs = async (signal) => {
    pauses.set(paused);
    await aborted(signal);
  };
  await look(kept);
  expect(verifications.rounds).toEqual([]);
  delete gates.blobs;
  pauses.set(null);
  await look(kept);
  expect(failed).toEqual([]);
  expect(verifications.rounds).toEqual([3]);
});

test('blobs are fetched although the node has them, except if the same coordinator supplied them', async () => {
  const fetched = async (supplied: boolean): Promise<number> => {
    const { look, blobs, calls } = await witnessOf({ supplied });
    for (const bytes of kept.blobs.values()) await blobs.put(bytes);
    await look(kept);
    return calls.filter((call) => kept.blobs.has(call)).length;
  };
  expect(await fetched(false)).toBeGreaterThan(5);
  expect(await fetched(true)).toBe(0);
});

test('a verification that needs more disk space than the owner lends does not begin', async () => {
  const { look, failed, verifications } = await witnessOf({ spare: 1000 });
  await look(kept);
  expect(failed).toMatchObject([{ round: 3, reason: expect.stringMatching(/1000 bytes.*--max-disk/) }]);
  expect(verifications.rounds).toEqual([]);
});

test('a verification that needs more memory than the owner lends does not begin', async () => {
  const { look, calls, failed, verifications } = await witnessOf({ spareMemory: 350 * 2 ** 20 });
  await look(kept);
  expect(failed).toMatchObject([
    { round: 3, reason: expect.stringMatching(/351 MiB.*350 MiB.*--max-memory/) },
  ]);
  expect(verifications.rounds).toEqual([]);
  // The witness fetches no blobs for a verification that does not begin.
  expect(calls.filter((call) => kept.blobs.has(call))).toEqual([]);
});

test('the memory of a verification grows with the adapter and with up to eight updates', () => {
  const { message: manifest } = verifyMessage('manifest', kept.manifest);
  const bytesOf = (parameters: number, contributors: number): number =>
    verificationBytes({ ...manifest, adapter: { ...manifest.adapter, parameters } }, contributors);
  // The measured peaks of decision 108, in MiB, are below the estimates.
  expect(bytesOf(16e6, 8) / 2 ** 20).toBeGreaterThan(1827);
  expect(bytesOf(16e6, 2) / 2 ** 20).toBeGreaterThan(1179);
  expect(bytesOf(4e6, 8) / 2 ** 20).toBeGreaterThan(698);
  expect(bytesOf(16e6, 100)).toBe(bytesOf(16e6, 8));
});

test('the jobs of a node together use no more disk space than the owner lends', async () => {
  const { look, calls } = await witnessOf();
  await look(kept);
  const fetched = new Set(calls.filter((call) => kept.blobs.has(call)));
  const size = [...fetched].reduce((sum, digest) => sum + kept.blobs.get(digest)!.byteLength, 0);
  // Each job alone has enough space, also if it continues after a pause. Both jobs together need four times the size.
  const others = { [SLOW.peerId]: slow };
  const { witness, failed, verifications, gates, pauses } = await witnessOf({ others, spare: 3 * size });
  let left = 3;
  gates.blobs = async () => {
    if (left-- === 0) pauses.set({ reason: 'traffic', text: 'the traffic is used up', until: null });
    await setTimeout(1);
  };
  await witness.look();
  expect(verifications.rounds).toEqual([]);
  pauses.set(null);
  await witness.look();
  expect(verifications.rounds).toEqual([3]);
  expect(failed).toMatchObject([{ round: 3, reason: expect.stringContaining('--max-disk') }]);
});

test('the proofs of a node take up disk space of the witness, but its working files are counted apart', async () => {
  const folder = await temporaryFolder();
  await mkdir(join(folder, 'working'));
  await writeFile(join(folder, 'working', 'blob'), 'x'.repeat(100));
  await writeFile(join(folder, 'abc-round-1.bundle'), 'x'.repeat(10));
  expect(await proofBytes(folder)).toBe(10);
});

test('the witness drops a job that the node has left, with its working files', async () => {
  const { look, jobs, gates, pauses, folder, witness, verifications } = await witnessOf();
  const pause = { reason: 'traffic', text: 'the traffic is used up', until: null } as const;
  let left = 3;
  gates.blobs = async (signal) => {
    if (left-- === 0) pauses.set(pause);
    signal.throwIfAborted();
  };
  await look(kept);
  expect(await readdir(folder)).toHaveLength(1);
  delete jobs[COORDINATOR.peerId];
  delete gates.blobs;
  pauses.set(null);
  await witness.look();
  await eventually(async () => expect(await readdir(folder)).toEqual([]));
  await look(kept);
  expect(verifications.rounds).toEqual([3]);
});

test('an adapter that is larger than the manifest allows is not fetched, and is a problem', async () => {
  const { look, found, calls } = await witnessOf();
  const adapter = { digest: 'ab'.repeat(32), size: 2 ** 29 };
  await look(forged(kept, { checkpoint: () => ({ adapter }) }));
  expect(calls).not.toContain(adapter.digest);
  expect(found).toMatchObject([
    { code: 'VERIFY_CHAIN', reason: expect.stringContaining(`${2 ** 29} bytes`) },
  ]);
});

test('a coordinator that announces endless checkpoints is reported once, and the node stops asking it', async () => {
  const endless = forged(kept, {
    head: ({ checkpoint, ...head }) => ({
      round: Math.max(head.round, 9_000),
      checkpoint: { ...checkpoint, round: 9_000, ordinal: 2 ** 40 },
    }),
  });
  for (const first of [kept, endless]) {
    const { look, found, calls } = await witnessOf();
    for (const job of [first, endless, endless]) await look(job);
    expect(found).toMatchObject([{ code: 'VERIFY_SOURCE', reason: expect.stringContaining('round 9000') }]);
    expect(calls.length).toBeLessThan(60);
  }
});
