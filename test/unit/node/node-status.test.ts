import { expect, test } from 'vitest';
import { totalRounds } from '../../../node/node-status.ts';
import { makeHead } from './heads.ts';

test('null rounds are added to the number of rounds', () => {
  expect(totalRounds(20, null)).toBe(20);
  expect(totalRounds(20, makeHead({ sequence: 1, round: 10 }))).toBe(20);
  // Round 9 was a null round.
  expect(totalRounds(20, makeHead({ sequence: 1, round: 10, checkpoint: 8 }))).toBe(21);
  // An earlier round was null, and the last round gives the twentieth checkpoint.
  const last = makeHead({ sequence: 1, round: 21, checkpoint: 21, phase: 'finished' });
  expect(totalRounds(20, { ...last, checkpoint: { ...last.checkpoint, ordinal: 20 } })).toBe(21);
});
