import { expect, test } from 'vitest';
import { NodeStore } from '../../../../node/store/node-store.ts';
import { digest, JOB } from '../heads.ts';

test('a checkpoint that a restored coordinator has lost is skipped if a new one has a smaller number', () => {
  const { kept } = NodeStore.open(':memory:');
  const keep = (round: number, ordinal: number): void =>
    kept.keepCheckpoint(JOB, {
      round,
      ordinal,
      digest: digest('checkpoint', round),
      envelope: new Uint8Array([round]),
    });
  for (let round = 1; round <= 8; round++) keep(round, round);
  // The coordinator lost the checkpoints 6 to 8. This node lacks the new checkpoint number 7, of round 10.
  keep(9, 6);
  keep(11, 8);
  const walk: number[] = [];
  for (let next = 4; ; ) {
    const found = kept.checkpointFrom(JOB, next);
    if (found === null) break;
    walk.push(found.envelope[0]!);
    next = found.ordinal + 1;
  }
  expect(walk).toEqual([4, 5, 9, 11]);
});
