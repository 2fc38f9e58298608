import { expect, test } from 'vitest';
import type { Figures } from '../../../../protocol/messages.ts';
import { checkHistory } from '../../../../verify/scores/history.ts';

type Update = Figures['updates'][number];

/** Returns the figures of a merge with one update of the peer P. */
function figuresOf(round: number, update: Partial<Update>, term = 1): Figures {
  return { round, term, updates: [{ peer: 'P', round, share: null, audit: null, ...update }] } as Figures;
}

const SHARES = [1, 0, 0, 0.9];
const known = new Map(SHARES.map((share, i) => [i + 5, figuresOf(i + 5, { share })]));
const earlier = (...merges: number[]) =>
  merges.map((merge) => ({ merge, round: merge, share: SHARES[merge - 5]!, failed: false }));
const check = (shares: Update['earlier'], term = 1) =>
  checkHistory(figuresOf(9, { earlier: shares }, term), known);

test('earlier shares that are repeated or not sorted are reported, and others are not', () => {
  expect(check(earlier(8, 7, 6))).toEqual({
    mismatches: [],
    unsorted: [],
    withoutAudit: [],
    isComplete: true,
  });
  for (const merges of [
    [8, 8, 8],
    [5, 5, 8],
    [7, 8],
  ]) {
    expect(check(earlier(...merges)).unsorted, String(merges)).toEqual(['P']);
  }
  const late = [
    { merge: 8, round: 8, share: 0.9, failed: false },
    { merge: 8, round: 7, share: 0.9, failed: false },
  ];
  expect(check(late).unsorted).toEqual([]);
  expect(check(late.toReversed()).unsorted).toEqual(['P']);
});

test('a share that counts as 0 because of a failed audit is named if no audit was published', () => {
  const [newest, ...others] = earlier(8, 7, 6);
  const failed = [{ ...newest!, failed: true }, ...others];
  expect(check(failed)).toMatchObject({ mismatches: [], withoutAudit: ['P'] });
});

test('a share that a merge of an earlier term has may be missing, and one of the same term may not', () => {
  expect(check(earlier(8, 6), 2)).toMatchObject({ mismatches: [], isComplete: false });
  expect(check(earlier(8, 6)).mismatches).toMatchObject([{ merge: 5 }, { merge: 7 }]);
});
