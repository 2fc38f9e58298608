import { expect, it } from 'vitest';
import { totalRounds } from '../../../protocol/total-rounds.ts';

const at = (round: number, checkpoint: { round: number; ordinal: number }) => ({ round, checkpoint });

it('adds the null rounds so far to the planned rounds', () => {
  expect(totalRounds(20, null)).toBe(20);
  expect(totalRounds(20, at(10, { round: 9, ordinal: 9 }))).toBe(20);
  // Round 9 was a null round.
  expect(totalRounds(20, at(10, { round: 8, ordinal: 8 }))).toBe(21);
  // An earlier round was null, and the last round gave the twentieth checkpoint.
  expect(totalRounds(20, at(21, { round: 21, ordinal: 20 }))).toBe(21);
});

it('does not count the open round, nor a round that a stop cut off', () => {
  expect(totalRounds(20, at(10, { round: 9, ordinal: 9 }))).toBe(20);
});
