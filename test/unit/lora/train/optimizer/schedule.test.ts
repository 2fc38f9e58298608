import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import {
  changedSchedule,
  learningRateAt,
  type Schedule,
  warmupStepsOf,
} from '../../../../../lora/train/optimizer/schedule.ts';
import { trainingReference } from '../../../../utils/models/training-reference.ts';

const reference = trainingReference();
const base = { learningRate: 2, warmupSteps: 4, warmupRatio: null, totalSteps: 104, finalFraction: 0.1 };

describe('the learning rate', () => {
  test.each(reference.schedules)(
    "is transformers' at every step: $schedule to $finalFraction, warm-up $warmupSteps of $totalSteps",
    ({ rates, ...settings }) => {
      const schedule: Schedule = { warmupRatio: null, ...settings };
      for (const [step, theirs] of rates.entries()) {
        // In transformers the first step of a warm-up has rate 0, so its warm-up is one step behind ours.
        const ours = learningRateAt(schedule, step < settings.warmupSteps ? step - 1 : step);
        if (step > 0 || settings.warmupSteps === 0) expect(ours, `step ${step}`).toBeCloseTo(theirs, 12);
        else expect(theirs).toBe(0);
      }
    },
  );

  test.each(reference.warmup)('rises over $steps steps: a share of $share of $totalSteps', (theirs) => {
    const { share, totalSteps, steps } = theirs;
    expect(warmupStepsOf({ warmupSteps: 7, warmupRatio: share, totalSteps })).toBe(steps);
  });

  it('rises to its peak over the warm-up and stays there', () => {
    const constant: Schedule = { ...base, schedule: 'constant' };
    expect([0, 1, 3, 4, 5000].map((at) => learningRateAt(constant, at))).toEqual([0.5, 1, 2, 2, 2]);
  });

  it('changes with the job, and the warm-up does not begin again', () => {
    const before: Schedule = { ...base, warmupRatio: 0.5, schedule: 'constant' };
    const after = changedSchedule(before, { learningRate: 1, totalSteps: 1000 });
    expect(warmupStepsOf(after)).toBe(52);
    expect(learningRateAt(before, 60)).toBe(2);
    expect(learningRateAt(after, 60)).toBe(1);
    expect(changedSchedule(before, undefined)).toBe(before);
  });

  it('falls to its final fraction, and stays there', () => {
    for (const schedule of ['linear', 'cosine'] as const) {
      const falling: Schedule = { ...base, schedule };
      expect(learningRateAt(falling, 4)).toBe(2);
      expect(learningRateAt(falling, 54)).toBeCloseTo(1.1);
      expect(learningRateAt(falling, 104)).toBeCloseTo(0.2);
      expect(learningRateAt(falling, 9999)).toBeCloseTo(0.2);
      expect(learningRateAt({ ...falling, warmupSteps: 0 }, 0)).toBe(2);
    }
  });

  it('on a node that joined late warms up to the current rate of the job', () => {
    const cosine: Schedule = { ...base, schedule: 'cosine' };
    expect(learningRateAt(cosine, 0, 54)).toBeCloseTo(1.1 / 4);
    expect(learningRateAt(cosine, 4, 58)).toBe(learningRateAt(cosine, 58));
    expect(learningRateAt(cosine, 200, 104)).toBeCloseTo(0.2);
  });

  it('is never above the peak, never negative, and falls monotonically after the warm-up', () => {
    fc.assert(
      fc.property(
        fc.constantFrom('constant', 'linear', 'cosine'),
        fc.nat(50),
        fc.integer({ min: 1, max: 200 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (name, warmupSteps, totalSteps, finalFraction) => {
          const schedule: Schedule = { ...base, schedule: name, warmupSteps, totalSteps, finalFraction };
          const rates = Array.from({ length: 260 }, (_, step) => learningRateAt(schedule, step));
          expect(Math.max(...rates)).toBeLessThanOrEqual(2);
          expect(Math.min(...rates)).toBeGreaterThanOrEqual(0);
          for (const [i, rate] of rates.slice(warmupSteps).entries()) {
            if (i > 0) expect(rate).toBeLessThanOrEqual(rates[warmupSteps + i - 1]! + 1e-12);
          }
        },
      ),
    );
  });
});
