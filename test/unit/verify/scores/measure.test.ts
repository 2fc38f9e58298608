import { expect, test } from 'vitest';
import type { SparseUpdate } from '../../../../lora/update/index.ts';
import type { Figures } from '../../../../protocol/messages.ts';
import { measureScores } from '../../../../verify/scores/measure.ts';

test('an effect of a late update is a mismatch if the round has no candidate, and no gradient is computed', async () => {
  const late = { effect: 1, effectError: 0.5 };
  const update = { peer: 'P', round: 3, parent: 'old', start: 0, end: 8, steps: 2, score: null, late };
  const figures = {
    round: 4,
    parent: 'new',
    seed: new Uint8Array(32),
    assignedEnd: 8,
    updates: [{ ...update, share: null, belief: 0.25, harmful: false, earlier: [] }],
  } as unknown as Figures;
  const reader = {
    load: async () => ({ tensors: [] }) as unknown as SparseUpdate,
    gradient: async () => {
      throw new Error('a gradient was computed');
    },
  };
  const { mismatches, effects } = await measureScores(figures, reader, { rows: 8 });
  expect(effects).toBe(0);
  expect(mismatches).toContainEqual({ peer: 'P', round: 3, figure: 'late', published: 1, computed: null });
});
