import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { holm, judged } from '../../../../../lora/evaluate/compare/holm.ts';
import { compareLosses } from '../../../../../lora/evaluate/compare/losses.ts';

describe('p-values of several differences', () => {
  // From statsmodels 0.15.0: multipletests(p, method='holm')[1]
  it.each([
    { p: [0.01, 0.04, 0.03, 0.005], adjusted: [0.03, 0.06, 0.06, 0.02] },
    { p: [0.02, 0.02, 0.9, 0.0001, 0.0125, 0.5], adjusted: [0.08, 0.08, 1, 0.0006, 0.0625, 1] },
    { p: [0.4, 0.6, 0.7], adjusted: [1, 1, 1] },
    { p: [0.03], adjusted: [0.03] },
    { p: [], adjusted: [] },
  ])('$p are adjusted as statsmodels adjusts them', ({ p, adjusted }) => {
    expect(holm(p)).toEqual(adjusted.map((value) => expect.closeTo(value, 12)));
  });

  it('keep their order, and are at least as large as before and at most as large as with Bonferroni (property)', () => {
    const values = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 1, maxLength: 20 });
    fc.assert(
      fc.property(values, (p) => {
        const adjusted = holm(p);
        for (const [i, value] of adjusted.entries()) {
          expect(value).toBeGreaterThanOrEqual(p[i]!);
          expect(value).toBeLessThanOrEqual(Math.min(1, p.length * p[i]!));
          for (const [j, other] of adjusted.entries()) if (p[i]! < p[j]!) expect(value <= other).toBe(true);
        }
      }),
    );
  });

  it('decide with their adjusted values whether a difference is noise', () => {
    const isBetter = ({ change }: { change: number }) => (change === 0 ? null : change < 0);
    const one = { p: 0.03, change: -1 };
    expect(judged([one], isBetter)).toEqual([{ ...one, adjustedP: 0.03, verdict: 'better' }]);
    const three = [one, { p: 0.01, change: 2 }, { p: 0, change: 0 }];
    expect(judged(three, isBetter).map(({ verdict }) => verdict)).toEqual(['better', 'worse', 'noise']);
    expect(judged([...three, one], isBetter).map(({ verdict }) => verdict)).toEqual([
      'noise',
      'worse',
      'noise',
      'noise',
    ]);
  });

  it('of losses are adjusted for the number of models', () => {
    const model = [0, 1, 2, 3, 4, 5].map((i) => [10 + i, 5] as const);
    const other = model.map(([loss, tokens], i) => [loss + [1, 2, -1, 2, 1, 1][i]!, tokens] as const);
    const [alone] = compareLosses(model, [other]);
    expect(alone).toMatchObject({ verdict: 'better', adjustedP: alone!.p });
    const three = compareLosses(model, [other, other, other]);
    for (const one of three) {
      expect(one).toMatchObject({ p: alone!.p, verdict: 'noise' });
      expect(one.adjustedP).toBeCloseTo(3 * alone!.p, 12);
    }
  });
});
