import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { systemClock } from '../../../../common/time/system-clock.ts';
import { verifyOwnNode } from '../../../../node/reader/verify-own-node.ts';
import { NodeStore } from '../../../../node/store/node-store.ts';
import { verifyMessage } from '../../../../protocol/signing.ts';
import { FileBlobStore } from '../../../../storage/blob-store.ts';
import { NODE_REASONS } from '../../../../verify/node-record.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { COORDINATOR } from '../../coordinator/world.ts';
import { forged, type KeptJob, playedJob } from '../../verify/forged-job.ts';

let kept: KeptJob;
beforeAll(async () => {
  ({ kept } = await playedJob());
});

/** Writes the home of a node that keeps the checkpoints of a job. @param checked rounds that its witness has checked */
async function homeOf({ manifest, records, blobs }: KeptJob, checked: readonly number[] = []) {
  const home = await temporaryFolder();
  const store = NodeStore.open(join(home, 'node.sqlite'));
  const { author: coordinator, digest: job } = verifyMessage('manifest', manifest);
  const key = { id: 1, key: new Uint8Array(32) };
  store.keptJobs.keep({ job, coordinator, isOpen: false, key }, { manifest, at: 1 });
  for (const [ordinal, record] of records.entries()) {
    const { digest, message } = verifyMessage('checkpoint', record.checkpoint);
    const { round } = message;
    store.kept.keepCheckpoint(job, { round, ordinal, digest, envelope: record.checkpoint });
    if (checked.includes(round)) store.keptMerges.keep(job, { round, digest, record });
  }
  const [envelope] = records.at(-1)!.heads;
  const { message: head } = verifyMessage('head', envelope!);
  store.kept.keepHead(job, head, envelope!);
  const files = await FileBlobStore.open({ home }, { clock: systemClock });
  await files.put(blobs.get(head.checkpoint.adapter.digest)!);
  store.close();
  return { home, job, coordinator, head };
}

test('the home of a node whose witness has checked a merge has all receipts and scores of this merge', async () => {
  const { home, job, head } = await homeOf(kept, [2]);
  const { ok, problems, checkpoints, held } = await verifyOwnNode({ home, job: 'toy' });
  expect([ok, problems]).toEqual([true, []]);
  const { round, adapter } = head.checkpoint;
  const weights = { round, digest: adapter.digest };
  expect(held).toEqual({ round, issuedAt: head.issuedAt, chainFrom: 0, weights });
  const reasonsOf = (index: number, check: string) =>
    checkpoints[index]!.unchecked.filter((one) => one.check === check).map(({ reason }) => reason);
  expect([reasonsOf(3, 'receipts'), reasonsOf(3, 'figures')]).toEqual([
    [NODE_REASONS.receipts],
    [NODE_REASONS.figures],
  ]);
  expect([reasonsOf(2, 'receipts'), reasonsOf(2, 'figures')]).toEqual([[], []]);
  expect(checkpoints[2]!.checked).toEqual(expect.arrayContaining(['receipts', 'figures']));
  expect((await verifyOwnNode({ home, job: job.slice(0, 8) }, { from: 2 })).ok).toBe(true);
});

test('what the coordinator signed wrong is a proof, also from the home of a node', async () => {
  const wrong = forged(kept, { checkpoint: () => ({ base: 'd'.repeat(64) }) });
  const { home } = await homeOf(wrong);
  const { problems } = await verifyOwnNode({ home });
  expect(problems.map(({ code }) => code)).toContain('VERIFY_CHAIN');
});

test('a job, a coordinator or a head that is not the expected one', async () => {
  const { home, job } = await homeOf(kept);
  for (const [options, code] of [
    [{ job: 'b'.repeat(64) }, 'JOB_NOT_FOUND'],
    [{ job: 'unknown' }, 'JOB_NOT_FOUND'],
  ] as const) {
    await expect(verifyOwnNode({ home, ...options })).rejects.toMatchObject({ code });
  }
  await expect(verifyOwnNode({ home }, { coordinator: 'other' })).rejects.toMatchObject({
    code: 'COORDINATOR_DIFFERS',
  });
  await expect(verifyOwnNode({ home: await temporaryFolder() })).rejects.toMatchObject({
    code: 'STORE_REFUSED',
  });
  const store = NodeStore.open(join(home, 'node.sqlite'));
  const foreign = { coordinator: COORDINATOR.peerId, isOpen: true, key: { id: 1, key: new Uint8Array(32) } };
  store.keptJobs.keep({ job: 'c'.repeat(64), ...foreign }, { manifest: kept.manifest, at: 2 });
  store.close();
  await expect(verifyOwnNode({ home })).rejects.toMatchObject({ code: 'JOB_NOT_FOUND' });
  await expect(verifyOwnNode({ home, job: 'c'.repeat(64) })).rejects.toMatchObject({
    code: 'CHECKPOINT_UNTRUSTED',
  });
  expect((await verifyOwnNode({ home, job })).ok).toBe(true);
});
