import { expect, test } from 'vitest';
import { NodeStore } from '../../../../node/store/node-store.ts';
import type { CheckpointRecord } from '../../../../verify/record.ts';
import { digest, JOB } from '../heads.ts';

function recordOf(round: number, evidence = new Uint8Array(3)): CheckpointRecord {
  const proofs = [null, { evidence, receipt: null }];
  return {
    checkpoint: new Uint8Array([round]),
    residual: null,
    proofs,
    figures: new Uint8Array(1),
    heads: [],
  };
}

test('a witness keeps the records of 8 rounds, and none that is too large', () => {
  const { keptMerges } = NodeStore.open(':memory:');
  for (let round = 1; round <= 10; round++) {
    keptMerges.keep(JOB, { round, digest: digest('merge', round), record: recordOf(round) });
  }
  expect(keptMerges.find(JOB, digest('merge', 2))).toBeNull();
  expect(keptMerges.find(JOB, digest('merge', 3))).toEqual(recordOf(3));
  expect([keptMerges.figures(JOB, 10), keptMerges.figures(JOB, 11)]).toEqual([new Uint8Array(1), null]);
  const large = recordOf(11, new Uint8Array(4 * 1024 * 1024));
  keptMerges.keep(JOB, { round: 11, digest: digest('merge', 11), record: large });
  expect(keptMerges.find(JOB, digest('merge', 11))).toBeNull();
});

test('scores of null rounds do not count, and a job that the node forgets leaves no records', () => {
  const { keptMerges, keptJobs } = NodeStore.open(':memory:');
  const found = () => keptMerges.find(JOB, digest('merge', 1));
  const nullFigures = Array.from({ length: 8 }, () => new Uint8Array(512 * 1024));
  keptMerges.keep(JOB, {
    round: 1,
    digest: digest('merge', 1),
    record: { ...recordOf(1), nullFigures },
  });
  expect(found()).toEqual(recordOf(1));
  const join = (job: string, at: number): void =>
    keptJobs.keep(
      { job, coordinator: 'boss', isOpen: false, key: { id: 1, key: new Uint8Array(32) } },
      { manifest: new Uint8Array(1), at },
    );
  join(JOB, 0);
  for (let n = 1; n < 64; n++) join(digest('job', n), n);
  expect(found()).toEqual(recordOf(1));
  join(digest('job', 64), 64);
  expect(found()).toBeNull();
});
