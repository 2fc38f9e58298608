import { expect, test } from 'vitest';
import { OfferedBlobs } from '../../../../coordinator/evaluation/offered-blobs.ts';
import type { JobRun } from '../../../../coordinator/job-run.ts';
import { mayFetch } from '../../../../coordinator/peers/blob-access.ts';
import type { Store } from '../../../../coordinator/store/store.ts';

const store = { blobs: { usesOf: () => [] } } as unknown as Store;

function run(role: string, offered: OfferedBlobs): JobRun {
  const members = { list: { get: () => ({ role }) } };
  return { context: { job: 'job' }, mayRead: () => true, members, offered } as unknown as JobRun;
}

test('only the operator node that was asked may fetch the questions, and only during the evaluation', async () => {
  const offered = new OfferedBlobs();
  const allowed = (peer: string, digest: string, role = 'operator'): boolean =>
    mayFetch(peer, digest, { jobs: [run(role, offered)], store });
  await offered.during({ peer: 'scorer', digest: 'questions' }, async () => {
    expect(allowed('scorer', 'questions')).toBe(true);
    expect(allowed('scorer', 'other')).toBe(false);
    expect(allowed('observer', 'questions')).toBe(false);
    expect(allowed('scorer', 'questions', 'observer')).toBe(false);
  });
  expect(allowed('scorer', 'questions')).toBe(false);
  await expect(
    offered.during({ peer: 'scorer', digest: 'questions' }, async () => {
      throw new Error('the node is gone');
    }),
  ).rejects.toThrow('the node is gone');
  expect(allowed('scorer', 'questions')).toBe(false);
});
