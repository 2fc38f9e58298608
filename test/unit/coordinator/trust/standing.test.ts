import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type CountedStrike,
  FIRST_SUSPENSION_ROUNDS,
  FORGET_ROUNDS,
  MAX_SUSPENSIONS,
  STRIKE_ROUNDS,
  sentenceOf,
  standingIn,
} from '../../../../coordinator/trust/standing.ts';

const strike = (round: number, kind: CountedStrike['kind'] = 'harmful', foundIn = round): CountedStrike => ({
  kind,
  round,
  foundIn,
});
const standing = (strikes: readonly CountedStrike[], round: number) => standingIn(sentenceOf(strikes), round);

/** Strikes a person in every round in which it is assigned, until its `suspensions` have begun. */
function persistent(suspensions: number): CountedStrike[] {
  const strikes: CountedStrike[] = [];
  for (let round = 1; sentenceOf(strikes).suspensions < suspensions; round++) {
    if (standing(strikes, round) !== 'suspended') strikes.push(strike(round));
  }
  return strikes;
}

describe('strikes', () => {
  test('one is without consequence, two mean probation, three suspension', () => {
    expect(standing([], 1)).toBe('good');
    expect(standing([strike(1)], 2)).toBe('good');
    expect(standing([strike(1), strike(2)], 3)).toBe('probation');
    expect(standing([strike(1), strike(2), strike(3)], 4)).toBe('suspended');
  });

  test('a failed audit means probation, a second one suspension', () => {
    expect(standing([strike(1, 'audit', 9)], 10)).toBe('probation');
    expect(standing([strike(1, 'audit', 9), strike(8, 'audit', 12)], 13)).toBe('suspended');
  });

  test('expire after 20 rounds', () => {
    const two = [strike(1), strike(11)];
    expect(standing(two, STRIKE_ROUNDS)).toBe('probation');
    expect(standing(two, STRIKE_ROUNDS + 1)).toBe('good');
    expect(standing([...two, strike(STRIKE_ROUNDS)], STRIKE_ROUNDS + 1)).toBe('suspended');
    expect(standing([...two, strike(STRIKE_ROUNDS + 1)], STRIKE_ROUNDS + 2)).toBe('probation');
  });

  test('for one round count once, by the heaviest', () => {
    expect(standing([strike(1), strike(1, 'outlier'), strike(1, 'bad-payload')], 2)).toBe('good');
    expect(standing([strike(1), strike(1, 'audit', 4)], 5)).toBe('probation');
  });
});

describe('a suspension', () => {
  test('ends by itself, into probation, and is forgotten in the end', () => {
    const strikes = [strike(1), strike(2), strike(3)];
    expect(standing(strikes, 3 + FIRST_SUSPENSION_ROUNDS)).toBe('suspended');
    expect(standing(strikes, 4 + FIRST_SUSPENSION_ROUNDS)).toBe('probation');
    expect(standing(strikes, 4 + FIRST_SUSPENSION_ROUNDS + STRIKE_ROUNDS)).toBe('good');
  });

  test('settles earlier misdeeds that are found later', () => {
    const strikes = [strike(1), strike(2), strike(3), strike(2, 'outlier', 5), strike(3, 'audit', 9)];
    expect(sentenceOf(strikes)).toEqual(sentenceOf(strikes.slice(0, 3)));
  });

  test('doubles with each further one', () => {
    const lengths = [1, 2, 3].map((count) => {
      const strikes = persistent(count);
      return sentenceOf(strikes).suspendedUntil - strikes.at(-1)!.foundIn;
    });
    expect(lengths).toEqual([4, 8, 16]);
  });

  test('is the first again after 100 rounds without one', () => {
    const twice = persistent(2);
    const { suspendedUntil } = sentenceOf(twice);
    const later = (after: number) => [1, 2, 3].map((i) => strike(suspendedUntil + after + i));
    expect(sentenceOf([...twice, ...later(FORGET_ROUNDS - 2).slice(0, 2)]).suspensions).toBe(3);
    expect(sentenceOf([...twice, ...later(FORGET_ROUNDS)]).suspensions).toBe(1);
  });
});

test('who never stops is struck in nine rounds, and is then over the number of suspensions', () => {
  const strikes = persistent(MAX_SUSPENSIONS + 1);
  expect(strikes).toHaveLength(9);
  expect(strikes.at(-1)!.foundIn).toBe(37);
});

const anyStrikes = fc
  .array(
    fc.record({
      kind: fc.constantFrom<CountedStrike['kind']>('harmful', 'outlier', 'bad-payload', 'disbelief', 'audit'),
      age: fc.integer({ min: 0, max: 2 }),
      pause: fc.integer({ min: 0, max: 60 }),
    }),
    { maxLength: 20 },
  )
  .map((steps) => {
    let foundIn = 3;
    return steps.map(({ kind, age, pause }): CountedStrike => {
      foundIn += pause;
      return { kind, round: foundIn - age, foundIn };
    });
  });

test('property: a standing never depends on the future, always ends, and one misdeed never suspends', () => {
  fc.assert(
    fc.property(anyStrikes, (strikes) => {
      const last = strikes.at(-1)?.foundIn ?? 0;
      expect(standing(strikes, last + 10_000)).toBe('good');
      const sentences = strikes.map((_, i) => sentenceOf(strikes.slice(0, i + 1)));
      for (const [i, { suspendedUntil, suspensions }] of sentences.entries()) {
        const before = sentences[i - 1] ?? sentenceOf([]);
        if (suspendedUntil === before.suspendedUntil) continue;
        // A suspension needs strikes of several rounds that have not expired. If the person was suspended before, one
        // failed audit is enough.
        const { kind, foundIn } = strikes[i]!;
        const recent = new Set(
          strikes
            .slice(0, i + 1)
            .flatMap((one) => (one.foundIn > foundIn - STRIKE_ROUNDS ? [one.round] : [])),
        );
        expect(recent.size > 1 || (kind === 'audit' && before.suspensions > 0)).toBe(true);
        expect(suspendedUntil - foundIn).toBe(FIRST_SUSPENSION_ROUNDS * 2 ** (suspensions - 1));
      }
    }),
  );
});
