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
