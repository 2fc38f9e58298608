import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isTrusted, passes } from '../../../../coordinator/audits/verdict.ts';

describe('the verdict of an audit', () => {
  test('an update passes if it is close and has both halves of the steps', () => {
    const of = { preset: 'balanced', isFirst: false } as const;
    expect(passes({ closeness: 0.89, balance: 1.6 }, of)).toBe(true);
    expect(passes({ closeness: 0.6, balance: 1.6 }, of)).toBe(false);
    expect(passes({ closeness: 0.89, balance: 0.2 }, of)).toBe(false);
    // An update this close is honest even if its balance is low, for example because its node has lost its moments.
    expect(passes({ closeness: 0.97, balance: 0.2 }, of)).toBe(true);
    expect(passes({ closeness: Number.NaN, balance: 1 }, of)).toBe(false);
    // The limits depend on the preset.
    expect(passes({ closeness: 0.6, balance: 1.6 }, { ...of, preset: 'dense' })).toBe(true);
    // The limit on the balance lies between these two: the lowest balance of an honest update with the preset tiny, and the
    // balance after half of the steps with the preset dense.
    expect(passes({ closeness: 0.93, balance: 0.42 }, { ...of, preset: 'tiny' })).toBe(true);
    expect(passes({ closeness: 0.63, balance: 0.38 }, { ...of, preset: 'dense' })).toBe(false);
  });

  test('the balance is not judged in the first update of an author', () => {
    const half = { closeness: 0.6, balance: 0.1 };
    const of = { preset: 'dense', isFirst: false } as const;
    expect(passes(half, of)).toBe(false);
    expect(passes(half, { ...of, isFirst: true })).toBe(true);
  });

  test('a failure counts only if more of the others passed than failed', () => {
    const result = (person: string, passed: boolean, belief = 1) => ({
      person,
      passed,
      belief,
      isNewcomer: false,
    });
    expect(isTrusted('a', [result('a', false)])).toBe(false);
    expect(isTrusted('a', [result('a', false), result('b', true)])).toBe(true);
    expect(isTrusted('a', [result('a', false), result('b', true), result('c', false)])).toBe(false);
    // Failures of new identities have no weight, however many there are.
    const crowd = Array.from({ length: 20 }, (_, i) => ({
      ...result(`new ${i}`, false, 0.25),
      isNewcomer: true,
    }));
    expect(isTrusted('a', [result('a', false), result('b', true, 0.5), ...crowd])).toBe(true);
    expect(isTrusted('new 3', [result('b', true, 0.5), ...crowd])).toBe(true);
    expect(isTrusted('a', [result('a', false), result('b', true, 0.5), result('c', false, 0.8)])).toBe(false);
    // If the accused is the only believed node, the newcomers that passed decide.
    const passed = crowd.slice(0, 6).map((one) => ({ ...one, passed: true }));
    expect(isTrusted('a', [result('a', false, 0.9), ...passed])).toBe(true);
    expect(isTrusted('a', [result('a', false, 0.9), ...passed, ...crowd.slice(6)])).toBe(false);
    const people = fc.uniqueArray(
      fc
        .record({ person: fc.string(), passed: fc.boolean() })
        .map(({ person, passed }) => result(person, passed)),
      { selector: ({ person }) => person },
    );
    fc.assert(
      fc.property(people, (newest) => {
        const failed = newest.filter(({ passed }) => !passed);
        // If more than half of the persons fail, none of the failures counts.
        const isShared = failed.length > newest.length / 2;
        const counted = failed.filter(({ person }) => isTrusted(person, newest));
        if (isShared) expect(counted).toEqual([]);
        else if (failed.length < newest.length / 2) expect(counted).toEqual(failed);
      }),
    );
  });
});
