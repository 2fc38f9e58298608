import { describe, expect, it } from 'vitest';
import type { JobRun } from '../../../../coordinator/job-run.ts';
import { sweepJobState } from '../../../../coordinator/jobs/sweep-job-state.ts';
import { lineageOf } from '../../../../coordinator/store/lineage.ts';
import type { StoredCheckpoint } from '../../../../coordinator/store/rounds.ts';
import type { Store } from '../../../../coordinator/store/store.ts';

/** A loss, null for no loss, or the round that a roll-back restores. */
type Fact = number | null | { readonly restores: number };

/** Returns the checkpoints of the rounds from 0 on. */
function checkpoints(facts: readonly Fact[]): StoredCheckpoint[] {
  return facts.map((fact, round) => ({
    round,
    digest: `d${round}`,
    envelope: new Uint8Array(),
    residual: null,
    weights: 'held',
    heldOutLoss: typeof fact === 'number' ? fact : null,
    restores: typeof fact === 'object' && fact !== null ? fact.restores : null,
    restoreReason: null,
  }));
}

const rounds = (...facts: Fact[]) => lineageOf(checkpoints(facts)).map(({ round }) => round);

describe('the checkpoints that count', () => {
  it('are those that no roll-back has undone, without the roll-backs', () => {
    expect(rounds(9, 8, 7)).toEqual([1, 2]);
    expect(rounds(9, 8, 7, { restores: 1 }, 6)).toEqual([1, 4]);
    expect(rounds(9, 8, { restores: 0 })).toEqual([]);
  });

  it('can be of a branch that an earlier roll-back had undone', () => {
    expect(rounds(9, 8, 7, { restores: 1 }, 6, { restores: 2 }, 5)).toEqual([1, 2, 6]);
    expect(rounds(9, 8, { restores: 1 }, 7, { restores: 2 }, 6)).toEqual([1, 5]);
  });
});

describe('a job in a sweep', () => {
  const stateOf = (
    target: number,
    facts: readonly Fact[],
    state: { phase?: string; committed?: number; reason?: string } = {},
  ) => {
    const run = {
      context: { job: 'j' },
      driver: {
        state: {
          phase: 'training',
          committed: facts.length - 1,
          settings: { count: 4 },
          reason: '',
          ...state,
        },
      },
    } as unknown as JobRun;
    return sweepJobState(run, target, {
      rounds: { checkpoints: () => checkpoints(facts) },
    } as unknown as Store);
  };

  it('is judged by the checkpoint that the halving asks for', () => {
    expect(stateOf(2, [9, 8, 7, 6])).toEqual({ state: 'measured', loss: 7 });
    expect(stateOf(2, [9, 8])).toEqual({ state: 'training' });
    expect(stateOf(2, [9, 8, { restores: 0 }, 6])).toEqual({ state: 'training' });
    expect(stateOf(2, [9, 8, null])).toEqual({ state: 'unmeasured' });
  });

  it('is judged by its last checkpoint if it has done all of its rounds', () => {
    expect(stateOf(8, [9, 8, 7, 6, 5], { phase: 'finished' })).toEqual({ state: 'measured', loss: 5 });
    const undone = [9, 8, 7, { restores: 1 }, { restores: 0 }] as const;
    expect(stateOf(2, undone, { phase: 'finished' })).toEqual({ state: 'unmeasured' });
  });

  it('holds the sweep up while it is paused, unless it has enough checkpoints', () => {
    const paused = { phase: 'paused', reason: 'the disk is full' };
    expect(stateOf(2, [9, 8], paused)).toEqual({ state: 'paused', reason: paused.reason });
    expect(stateOf(1, [9, 8], paused)).toEqual({ state: 'measured', loss: 8 });
  });

  it('is dropped if it was stopped early', () => {
    expect(stateOf(1, [9, 8], { phase: 'finished' })).toEqual({ state: 'dropped' });
  });
});
