import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type JudgedUpdate, misdeedsOf } from '../../../../coordinator/trust/misdeeds.ts';

const GOOD = { effect: 10, effectError: 1, gain: 5, exact: null, ownRows: 8 };

function update(peer: string, overrides: Partial<JudgedUpdate> = {}): JudgedUpdate {
  return {
    peer,
    round: 7,
    digest: `digest of ${peer}`,
    steps: 10,
    figures: GOOD,
    share: 1,
    belief: 1,
    isHarmful: false,
    isOutlier: false,
    isBadPayload: false,
    earlier: [1, 1, 1],
    scoredSince: 9,
    ...overrides,
  };
}

const HARMFUL = { figures: { ...GOOD, effect: -9 }, share: 0, belief: 0.67, isHarmful: true };
const DISBELIEVED = { share: 0.1, belief: 0, earlier: [0.1, 0.1, 0.1] };
const honest = ['a', 'b', 'c'].map((peer) => update(peer));
const kinds = (updates: readonly JudgedUpdate[]) => misdeedsOf(updates).misdeeds.map(({ kind }) => kind);

describe('a misdeed', () => {
  test('is an update that raises the loss or changes nothing, with the figures as evidence', () => {
    const { misdeeds, isShared } = misdeedsOf([...honest, update('x', HARMFUL)]);
    const figures = { effect: -9, error: 1, gain: 5, share: 0, belief: 0.67 };
    expect(misdeeds).toEqual([{ peer: 'x', round: 7, digest: 'digest of x', kind: 'harmful', figures }]);
    expect(isShared).toBe(false);
    expect(kinds([...honest, update('x', { ...HARMFUL, figures: null })])).toEqual(['harmful']);
    // A late update that raises the loss says nothing about its author.
    expect(kinds([...honest, update('x', { ...HARMFUL, figures: null, share: null })])).toEqual([]);
  });

  test('is an outlier', () => {
    expect(kinds([...honest, update('x', { isOutlier: true })])).toEqual(['outlier']);
  });

  test('is disbelief, after three scores that no earlier strike has used', () => {
    expect(kinds([...honest, update('x', { ...DISBELIEVED, scoredSince: 3 })])).toEqual(['disbelief']);
    expect(kinds([...honest, update('x', { ...DISBELIEVED, scoredSince: 2 })])).toEqual([]);
    expect(kinds([...honest, update('x', { ...DISBELIEVED, share: null })])).toEqual([]);
  });

  test('needs scores that stand out from their noise, except for zeros and outliers', () => {
    const noisy = honest.map((one) => ({ ...one, figures: { ...GOOD, effectError: 5 } }));
    expect(kinds([...noisy, update('x', HARMFUL), update('y', DISBELIEVED)])).toEqual([]);
    expect(
      kinds([...noisy, update('x', { ...HARMFUL, figures: null }), update('y', { isOutlier: true })]),
    ).toEqual(['harmful', 'outlier']);
  });
});

describe('a shared fault', () => {
  test('is one of authors with more than half of the earned belief', () => {
    const bad = ['x', 'y', 'z'].map((peer) => update(peer, { isOutlier: true }));
    expect(misdeedsOf([...honest, ...bad]).isShared).toBe(false);
    expect(misdeedsOf([...honest, ...bad, update('w', { isOutlier: true })]).isShared).toBe(true);
  });

  test('cannot be claimed by a crowd of new identities', () => {
    const crowd = Array.from({ length: 100 }, (_, i) => update(`x${i}`, { ...HARMFUL, earlier: [] }));
    const { misdeeds, isShared } = misdeedsOf([...honest, ...crowd]);
    expect(misdeeds).toHaveLength(100);
    expect(isShared).toBe(false);
  });

  test('is counted by heads while no node has earned belief', () => {
    const fresh = honest.map((one) => ({ ...one, earlier: [] }));
    const bad = ['x', 'y', 'z'].map((peer) => update(peer, { isOutlier: true, earlier: [] }));
    expect(misdeedsOf([...fresh, ...bad]).isShared).toBe(false);
    expect(misdeedsOf([...fresh, ...bad, update('w', { isOutlier: true, earlier: [] })]).isShared).toBe(true);
  });
});

test('property: the order of updates changes nothing, and good updates are no misdeeds', () => {
  const any = fc.array(
    fc.constantFrom<Partial<JudgedUpdate>>({}, HARMFUL, DISBELIEVED, { isOutlier: true }),
    {
      maxLength: 12,
    },
  );
  fc.assert(
    fc.property(any, (list) => {
      const updates = list.map((one, i) => update(`p${i}`, one));
      const found = misdeedsOf(updates);
      const reversed = misdeedsOf(updates.toReversed());
      expect(reversed.isShared).toBe(found.isShared);
      expect(reversed.misdeeds.toReversed()).toEqual(found.misdeeds);
      const good = updates.filter((one) => !one.isHarmful && !one.isOutlier && one.belief > 0);
      for (const { peer } of good) expect(found.misdeeds.map((one) => one.peer)).not.toContain(peer);
    }),
  );
});
