import { expect, test } from 'vitest';
import { suspicionOf } from '../../../../coordinator/merge/suspicion.ts';

const known = { weight: 1, norm: 1, share: null };

test('puts suspects first, then persons without scores by norm, then the others by share', () => {
  const persons = suspicionOf([
    { ...known, source: 'good', person: 'good', share: 0.9 },
    { ...known, source: 'fair', person: 'fair', share: 0.5 },
    { ...known, source: 'small', person: 'small' },
    { ...known, source: 'large', person: 'large', norm: 9 },
    { ...known, source: 'low', person: 'low', share: 0.3 },
    { ...known, source: 'zero', person: 'zero', share: 0 },
  ]);
  expect(persons.map(({ sources }) => sources[0])).toEqual(['zero', 'low', 'large', 'small', 'fair', 'good']);
  expect(persons.map(({ isSuspect }) => isSuspect)).toEqual([true, true, false, false, false, false]);
});

test('judges all nodes of a person together, by the lowest share', () => {
  const persons = suspicionOf([
    { ...known, source: 'a', person: 'invite:1', share: 1, weight: 2 },
    { ...known, source: 'b', person: 'other', share: 0.8 },
    { ...known, source: 'c', person: 'invite:1', share: 0.1, weight: 3 },
  ]);
  expect(persons).toEqual([
    { sources: ['a', 'c'], weight: 5, isSuspect: true },
    { sources: ['b'], weight: 1, isSuspect: false },
  ]);
});
