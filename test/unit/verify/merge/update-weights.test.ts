import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { capWeights, stalenessWeight } from '../../../../lora/update/index.ts';
import {
  believableTokens,
  NEWCOMERS_SHARE,
  PERSON_MEDIANS,
  type Weighable,
  weighUpdates,
} from '../../../../verify/merge/update-weights.ts';

const ROUND = 9;

function update(person: string, overrides: Partial<Weighable> = {}): Weighable {
  return {
    round: ROUND,
    tokens: 1000,
    maxTokens: 1e9,
    belief: 1,
    person,
    isNewcomer: false,
    ...overrides,
  };
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

function totalsByPerson(updates: readonly Weighable[], weights: readonly number[]): Map<string, number> {
  const totals = new Map<string, number>();
  for (const [i, { person }] of updates.entries()) {
    totals.set(person, (totals.get(person) ?? 0) + weights[i]!);
  }
  return totals;
}

const anyUpdate = fc.record({
  round: fc.integer({ min: ROUND - 2, max: ROUND }),
  tokens: fc.integer({ min: 1, max: 1e9 }),
  maxTokens: fc.integer({ min: 1, max: 1e9 }),
  belief: fc.oneof(fc.constant(0), fc.double({ min: 0.2, max: 1, noNaN: true })),
  person: fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'),
  isNewcomer: fc.boolean(),
});
const anyMerge = fc.array(anyUpdate, { minLength: 1, maxLength: 24 });

describe('weighUpdates', () => {
  test('is tokens × staleness × belief where no limit acts, with the same bits', () => {
    const alike = fc.record({
      round: fc.integer({ min: ROUND - 1, max: ROUND }),
      tokens: fc.integer({ min: 950, max: 1050 }),
      belief: fc.double({ min: 0.9, max: 1, noNaN: true }),
    });
    fc.assert(
      fc.property(fc.array(alike, { minLength: 1, maxLength: 12 }), fc.boolean(), (given, isNewcomer) => {
        const updates = given.map((one, i) => update(String(i), { ...one, isNewcomer }));
        const tokens = capWeights(given.map((one) => one.tokens));
        const plain = given.map(({ round, belief }, i) =>
          Math.fround(tokens[i]! * stalenessWeight(ROUND - round) * belief),
        );
        expect(weighUpdates(updates, ROUND)).toEqual(plain);
      }),
    );
  });

  test('counts no more tokens than the assigned rows can have, whatever the author claims', () => {
    const manifest = { data: { rows: 100, tokens: 2000 }, training: { batchSize: 4 } };
    const most = believableTokens(10, manifest as Parameters<typeof believableTokens>[1]);
    expect(most).toBe(1.25 * 10 * 4 * 20);
    const updates = [
      update('a', { tokens: 800, maxTokens: most }),
      update('b', { tokens: 1500, maxTokens: most }),
    ];
    expect(weighUpdates(updates, ROUND)).toEqual([800, most]);
  });

  test('updates that one node held back weigh no more together than twice a median person', () => {
    const honest = ['a', 'b', 'c', 'd'].map((person) => update(person));
    const burst = [ROUND - 2, ROUND - 1, ROUND].map((round) => update('liar', { round }));
    const weights = weighUpdates([...honest, ...burst], ROUND);
    expect(weights.slice(0, 4)).toEqual([1000, 1000, 1000, 1000]);
    expect(sum(weights.slice(4))).toBeCloseTo(2000, 2);
  });

  test('all nodes of a personal invite are limited together', () => {
    const honest = ['a', 'b', 'c'].map((person) => update(person));
    const crowd = Array.from({ length: 10 }, () => update('invite:1'));
    const weights = weighUpdates([...honest, ...crowd], ROUND);
    expect(sum(weights.slice(3))).toBeCloseTo(PERSON_MEDIANS * 1000, 2);
  });

  test('all newcomers together have at most a quarter, beside believed nodes only', () => {
    const old = ['a', 'b', 'c'].map((person) => update(person));
    const crowd = Array.from({ length: 50 }, (_, i) =>
      update(`new-${i}`, { isNewcomer: true, belief: 0.25 }),
    );
    const weights = weighUpdates([...old, ...crowd], ROUND);
    expect(weights.slice(0, 3)).toEqual([1000, 1000, 1000]);
    expect(sum(weights.slice(3))).toBeCloseTo(1000, 1);
    expect(weighUpdates(crowd, ROUND)).toEqual(crowd.map(() => 250));
  });

  test('a crowd of newcomers with few tokens does not lower the limits of believed nodes', () => {
    const old = [1000, 1200, 1500].map((tokens, i) => update(String(i), { tokens }));
    const crowd = Array.from({ length: 50 }, (_, i) =>
      update(`new-${i}`, { isNewcomer: true, tokens: 1, belief: 0.25 }),
    );
    expect(weighUpdates([...old, ...crowd], ROUND).slice(0, 3)).toEqual([1000, 1200, 1500]);
  });

  test('persons with at least half of the belief each have half of what any person has (property)', () => {
    fc.assert(
      fc.property(anyMerge, (given) => {
        const updates = given.map((one) => ({ ...one, isNewcomer: false }));
        const totals = totalsByPerson(updates, weighUpdates(updates, ROUND));
        const beliefs = [...totals.keys()].map((person) => ({
          total: totals.get(person)!,
          belief: Math.max(...updates.filter((one) => one.person === person).map(({ belief }) => belief)),
        }));
        const largest = Math.max(...totals.values());
        const near = beliefs.filter(({ total }) => PERSON_MEDIANS * total * 1.0001 >= largest);
        const all = sum(beliefs.map(({ belief }) => belief));
        expect(sum(near.map(({ belief }) => belief))).toBeGreaterThanOrEqual((all / 2) * 0.9999);
      }),
    );
  });

  test('newcomers never have more than their share beside believed nodes (property)', () => {
    fc.assert(
      fc.property(anyMerge, (updates) => {
        const weights = weighUpdates(updates, ROUND);
        const of = (newcomers: boolean): number =>
          sum(weights.filter((_, i) => updates[i]!.isNewcomer === newcomers));
        if (of(false) === 0) return;
        expect(of(true)).toBeLessThanOrEqual((of(true) + of(false)) * NEWCOMERS_SHARE * 1.0001);
      }),
    );
  });

  test('no attacker gains weight by splitting a newcomer into many (property)', () => {
    fc.assert(
      fc.property(anyMerge, fc.integer({ min: 1, max: 40 }), (updates, count) => {
        const old = updates.map((one, i) => ({ ...one, person: `old-${i}`, isNewcomer: false }));
        if (!old.some(({ belief }) => belief > 0)) return;
        const crowd = Array.from({ length: count }, (_, i) =>
          update(`new-${i}`, { isNewcomer: true, belief: 0.25 }),
        );
        const weights = weighUpdates([...old, ...crowd], ROUND);
        expect(weights.slice(0, old.length)).toEqual(weighUpdates(old, ROUND));
      }),
    );
  });
});
