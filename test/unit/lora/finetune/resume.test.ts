import { describe, expect, it } from 'vitest';
import type { SwarmError } from '../../../../common/errors.ts';
import type { RunState } from '../../../../lora/finetune/checkpoints.ts';
import { resumeFrom } from '../../../../lora/finetune/resume.ts';
import { type Layer, resolveSpec, trainingConfig } from '../../../../lora/finetune/settings/settings.ts';
import { withCode } from '../../../utils/source/codes.ts';
import { trainingState } from '../../../utils/swarm/checkpoints.ts';

const ROWS = 800;

/** Resumes a run that was started with 100 steps, after `step` steps. `run` has the settings of the resumed run. */
function resumed(step: number, run: Layer['run'], change: Partial<RunState> = {}, training = {}) {
  const spec = (length: Layer['run']) =>
    resolveSpec({ base: '/base', data: { train: ['/data'] }, training, run: length });
  const settings = (length: Layer['run']) => {
    const own = spec(length);
    const { totalSteps } = trainingConfig(own, ROWS);
    return { ...trainingState(1).state.settings, spec: own, totalSteps };
  };
  const before = { ...trainingState(step).state, settings: settings({ epochs: 1 }), ...change } as RunState;
  const now = settings(run);
  const warnings: SwarmError[] = [];
  const state = resumeFrom(
    before,
    { output: '/out', settings: now, training: trainingConfig(now.spec, ROWS) },
    (warning) => warnings.push(warning),
  );
  return { state, before, warnings: warnings.map(({ code }) => code) };
}

describe('a resumed run', () => {
  it('has its old state if nothing changed', () => {
    const { state, before, warnings } = resumed(40, { epochs: 1 });
    expect(state).toBe(before);
    expect(warnings).toEqual([]);
    expect(resumed(100, { epochs: 1 }, { finished: 'steps' }).state.finished).toBe('steps');
  });

  it('may be longer, also after its end, in steps or epochs', () => {
    for (const run of [{ epochs: 2 }, { steps: 101 }]) {
      expect(resumed(100, run, { finished: 'steps' }).state).toMatchObject({ step: 100, finished: null });
    }
  });

  it('starts its patience again if it had stopped early', () => {
    const stopped = { finished: 'early-stopping', waited: 3 } as const;
    expect(resumed(60, { epochs: 1 }, stopped).state).toMatchObject(stopped);
    expect(resumed(60, { epochs: 2 }, stopped).state).toMatchObject({ finished: null, waited: 0 });
    expect(resumed(60, { epochs: 2 }, { waited: 1 }).state.waited).toBe(1);
  });

  it('may be shorter, but not shorter than the steps made', () => {
    expect(resumed(40, { steps: 40 }).state.step).toBe(40);
    expect(() => resumed(40, { steps: 39 })).toThrow(withCode('RESUME_CONFLICT', { step: 40 }));
  });

  it('warns if the new end of a schedule changes the learning rate', () => {
    expect(resumed(40, { epochs: 2 }, {}, { schedule: 'cosine' }).warnings).toEqual(['RATE_JUMPS']);
    expect(resumed(40, { epochs: 2 }, {}, { schedule: 'constant' }).warnings).toEqual([]);
    expect(resumed(4, { epochs: 2 }, {}, { warmupRatio: 0.1 }).warnings).toEqual(['RATE_JUMPS']);
    // All 40 steps have been made, so no later step has another learning rate.
    expect(resumed(40, { steps: 40 }, {}, { schedule: 'linear' }).warnings).toEqual([]);
  });

  it('is refused with other settings', () => {
    expect(() => resumed(40, { epochs: 1, patience: 2, evaluateEvery: 5 })).toThrow();
    const before = trainingState(5).state as RunState;
    const settings = { ...before.settings, base: 'another' };
    const training = trainingConfig(settings.spec, ROWS);
    expect(() => resumeFrom(before, { output: '/out', settings, training }, () => {})).toThrow(
      withCode('RESUME_CONFLICT', {
        differences: [expect.objectContaining({ field: 'base', now: 'another' })],
      }),
    );
  });

  it('is refused with advice if an earlier version held out other examples for its seed', () => {
    const refused = (seed: number): unknown => {
      const spec = resolveSpec({ base: '/base', data: { train: ['/data'], heldOut: 0.1 }, seed });
      const { state } = trainingState(5);
      const before = { ...state, settings: { ...state.settings, spec } } as RunState;
      const settings = { ...before.settings, rows: 'other' };
      try {
        resumeFrom(before, { output: '/out', settings, training: trainingConfig(spec, ROWS) }, () => {});
      } catch (error) {
        return error;
      }
      return null;
    };
    expect(refused(1)).toMatchObject({
      code: 'RESUME_CONFLICT',
      next: expect.stringContaining('earlier version'),
    });
    expect(refused(0)).toMatchObject({
      code: 'RESUME_CONFLICT',
      next: expect.not.stringContaining('earlier version'),
    });
  });
});
