import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { judge, type Progress, type StoppingRule } from '../../../../lora/train/stopping.ts';

function run(losses: readonly number[], rule: StoppingRule) {
  let progress: Progress = { best: null, waited: 0 };
  for (const [step, loss] of losses.entries()) {
    const verdict = judge(progress, { step, loss }, rule);
    progress = verdict.progress;
    if (verdict.stop) return { stopped: step, best: progress.best };
  }
  return { stopped: null, best: progress.best };
}

describe('early stopping', () => {
  it('stops after as many measurements without improvement as patience allows', () => {
    const rule = { patience: 2, minDelta: 0 };
    expect(run([3, 2, 2.5, 1.9, 2, 2.1, 1], rule)).toEqual({ stopped: 5, best: { step: 3, loss: 1.9 } });
    expect(run([3, 2, 2.5, 1.9, 2], rule).stopped).toBeNull();
    expect(run([3, 3], { patience: 1, minDelta: 0 }).stopped).toBe(1);
  });

  it('keeps the lowest loss as the best, even if the improvement is below minDelta', () => {
    const verdict = run([2, 1.99, 1.98], { patience: 2, minDelta: 0.05 });
    expect(verdict).toEqual({ stopped: 2, best: { step: 2, loss: 1.98 } });
  });

  it('does not count NaN as an improvement', () => {
    expect(run([Number.NaN, 2, Number.NaN, Number.NaN], { patience: 2, minDelta: 0 })).toEqual({
      stopped: 3,
      best: { step: 1, loss: 2 },
    });
  });

  it('never stops without patience, and always has the lowest loss', () => {
    fc.assert(
      fc.property(
        fc.array(fc.double({ min: 0, max: 10, noNaN: true }), { minLength: 1 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (losses, minDelta) => {
          const { stopped, best } = run(losses, { patience: null, minDelta });
          expect(stopped).toBeNull();
          expect(best!.loss).toBe(Math.min(...losses));
          expect(best!.step).toBe(losses.indexOf(best!.loss));
        },
      ),
    );
  });
});
