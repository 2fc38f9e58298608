import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { systemClock } from '../../../../common/system-clock.ts';
import { silentLogger } from '../../../../monitor/log.ts';
import type { SwarmNetwork } from '../../../../net/network.ts';
import type { PhaseContext } from '../../../../node/context.ts';
import type { NodeState } from '../../../../node/machine/state.ts';
import { KEPT_PROOFS } from '../../../../node/witness/job-witness.ts';
import { Witness } from '../../../../node/witness/witness.ts';
import { verifyMessage } from '../../../../protocol/signing.ts';
import { FileBlobStore } from '../../../../storage/blob-store.ts';
import { verifyBundle } from '../../../../verify/bundle/verify-bundle.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { COORDINATOR } from '../../coordinator/world.ts';
import { forged, type KeptJob, playedJob } from '../../verify/forged-job.ts';

let kept: KeptJob;

beforeAll(async () => {
  ({ kept } = await playedJob());
});

/** A witness of a node whose coordinator answers from the record of a job, up to its newest checkpoint. */
async function witnessOf() {
  const home = await temporaryFolder();
  const deps = { clock: systemClock };
  const blobs = await FileBlobStore.open({ home }, deps);
  const store = await FileBlobStore.open({ home: join(home, 'witness') }, deps);
  const found: Record<string, unknown>[] = [];
  const calls: string[] = [];
  let shown = kept;
  const head = () => verifyMessage('head', shown.records.at(-1)!.heads[0]!).message;
  const answers: Record<string, (body: { ordinal: number; round: number }) => unknown> = {
    manifest: () => ({ manifest: shown.manifest, head: shown.records.at(-1)!.heads[0] }),
    record: ({ ordinal }) => {
      const { checkpoint, proofs, residual: digest } = shown.records[ordinal]!;
      const residual = digest && { digest, size: shown.blobs.get(digest)!.byteLength };
      return { checkpoint, proofs, residual };
    },
    figures: ({ round }) => ({ figures: shown.records[round]!.figures }),
  };
  const network = {
    request: async (_peer: string, method: string, body: never) => {
      calls.push(method);
      return answers[method]!(body);
    },
    fetchBlob: async ({ digest }: { digest: string }) => {
      calls.push(digest);
      await blobs.put(shown.blobs.get(digest)!);
    },
  } as unknown as SwarmNetwork;
  const context = { coordinator: COORDINATOR.peerId, options: { invite: null } } as PhaseContext;
  const witness = new Witness(
    { home },
    {
      ...{ network, blobs, kept: store, ...deps },
      collector: { withScope: (work) => work({ hold: async () => {}, put: (bytes) => blobs.put(bytes) }) },
      log: { ...silentLogger, error: (fields: object) => found.push({ ...fields }) } as typeof silentLogger,
      jobs: () => [{ context: { ...context, job: head().job }, state: { head: head() } as NodeState }],
      verify: ({ file, job, from }) => verifyBundle(file, { job, from }),
    },
  );
  const look = async (job: KeptJob): Promise<void> => {
    shown = job;
    await witness.look();
  };
  const files = async (): Promise<string[]> =>
    (await readdir(join(home, 'witness'))).filter((name) => name.endsWith('.bundle'));
  return { look, found, calls, files, folder: join(home, 'witness') };
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
  const { look, found, calls, files } = await witnessOf();
  await look(kept);
  expect(found).toEqual([]);
  expect(await files()).toEqual([]);
  expect(calls.slice(0, 2)).toEqual(['manifest', 'record']);
  const before = calls.length;
  await look(kept);
  expect(calls).toHaveLength(before);
});

test('a problem is logged with its proof, and the coordinator gets the same requests', async () => {
  const honest = await witnessOf();
  await honest.look(kept);
  const { look, found, calls, files } = await witnessOf();
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
  expect(await files()).toEqual([expect.stringMatching(/^[0-9a-f]{12}-round-3\.bundle$/)]);
  const proof = await verifyBundle(String(found[0]!.file), { from: 3 });
  expect(proof.problems[0]!.code).toBe('VERIFY_SOURCE');
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
