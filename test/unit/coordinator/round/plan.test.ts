import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LEAST_STEPS_SHARE, planRound } from '../../../../coordinator/round/plan.ts';
import { ROUND_PEERS } from '../../../../protocol/limits.ts';

const settings = { localSteps: 30, preset: 'auto', batchSize: 8 } as const;

describe('planRound', () => {
  test('gives steps in proportion to measured speed, from a third of them to all', () => {
    const { assignments } = planRound({ a: 1000, b: 500, c: 10, d: 0 }, 1, settings);
    // The unmeasured node gets the median node's steps.
    expect(assignments.map(({ steps }) => steps)).toEqual([30, 15, 10, 15]);
  });

  test('gives all steps to every node when none was measured', () => {
    const { assignments } = planRound({ a: 0, b: 0 }, 1, settings);
    expect(assignments.map(({ steps }) => steps)).toEqual([30, 30]);
  });

  test('turns "auto" into dense below four nodes and into balanced from four on, and keeps other presets', () => {
    expect(planRound({ a: 0, b: 0, c: 0 }, 1, settings).preset).toBe('dense');
    expect(planRound({ a: 0, b: 0, c: 0, d: 0 }, 1, settings).preset).toBe('balanced');
    expect(planRound({ a: 0 }, 1, { ...settings, preset: 'tiny' }).preset).toBe('tiny');
  });

  test('lets all nodes take turns when a round cannot take all of them', () => {
    const speeds = Object.fromEntries(Array.from({ length: ROUND_PEERS + 100 }, (_, i) => [`peer-${i}`, 0]));
    const seen = new Set<string>();
    for (let round = 1; round <= 2; round++) {
      const { assignments } = planRound(speeds, round, settings);
      expect(assignments).toHaveLength(ROUND_PEERS);
      for (const { peer } of assignments) seen.add(peer);
    }
    expect(seen.size).toBe(ROUND_PEERS + 100);
  });

  test('makes intervals without overlaps or gaps that hold exactly the rows of the steps (property)', () => {
    const speeds = fc.dictionary(
      fc.string({ minLength: 1, maxLength: 6 }),
      fc.integer({ min: 0, max: 1e6 }),
      { maxKeys: 40 },
    );
    fc.assert(
      fc.property(
        speeds,
        fc.integer({ min: 1, max: 60 }),
        fc.integer({ min: 1, max: 16 }),
        (given, localSteps, batchSize) => {
          const { assignments } = planRound(given, 1, { localSteps, batchSize, preset: 'auto' });
          let end = 0;
          for (const { start, end: next, steps } of assignments) {
            expect(start).toBe(end);
            expect(next - start).toBe(steps * batchSize);
            expect(steps).toBeLessThanOrEqual(localSteps);
            expect(steps).toBeGreaterThanOrEqual(Math.ceil(localSteps * LEAST_STEPS_SHARE));
            end = next;
          }
          const peers = assignments.map(({ peer }) => peer);
          expect(peers).toEqual([...Object.keys(given)].sort());
        },
      ),
    );
  });
});
