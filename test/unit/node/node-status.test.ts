import { expect, test } from 'vitest';
import { totalRounds } from '../../../node/node-status.ts';
import { makeHead } from './heads.ts';

test('rounds are counted as the coordinator does: those that came to nothing on top', () => {
  expect(totalRounds(20, null)).toBe(20);
  expect(totalRounds(20, makeHead({ sequence: 1, round: 10 }))).toBe(20);
  // Round 9 changed nothing.
  expect(totalRounds(20, makeHead({ sequence: 1, round: 10, checkpoint: 8 }))).toBe(21);
  // An earlier one did, and the checkpoint of the last round is the twentieth.
  const last = makeHead({ sequence: 1, round: 21, checkpoint: 21, phase: 'finished' });
  expect(totalRounds(20, { ...last, checkpoint: { ...last.checkpoint, ordinal: 20 } })).toBe(21);
});
