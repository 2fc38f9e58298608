import { describe, expect, it } from 'vitest';
import { isSwarmError } from '../../../../common/errors.ts';
import { type RunEstimate, refuseIfTooLarge } from '../../../../lora/finetune/estimate.ts';

const GB = 1e9;

function estimate(change: {
  needed?: number;
  available?: number;
  cache?: number;
  microBatchThatFits?: number | null;
  onProcessor?: boolean;
}): RunEstimate {
  const { needed = GB, available = 8 * GB, cache = GB, microBatchThatFits = null } = change;
  const { onProcessor = true } = change;
  const fits = (!onProcessor || 1.25 * needed <= available) && cache <= 10 * GB;
  return {
    model: { family: 'llama', parameters: 1 },
    adapterParameters: 1,
    tokens: 1,
    rows: 1,
    steps: 1,
    counted: true,
    memory: {
      runtime: 0,
      trainers: 1,
      command: 0,
      weights: 0,
      activations: needed,
      adapter: 0,
      total: needed,
      available,
      onProcessor,
    },
    disk: { weights: cache, data: 0, output: 1, freeInCache: 10 * GB, freeInOutput: GB },
    time: {
      flopsPerStep: 1,
      speed: { flops: 1, bytes: 1, secondsPerOperation: 1 },
      secondsPerStep: 1,
      seconds: 1,
    },
    microBatchThatFits,
    fits,
    checkpointing: { on: false, reason: null },
  };
}

function refusal(change: Parameters<typeof estimate>[0]) {
  try {
    refuseIfTooLarge(estimate(change));
  } catch (error) {
    return isSwarmError(error, 'DOES_NOT_FIT') ? { ...error.values, next: error.next } : error;
  }
  return null;
}

describe('a dry run', () => {
  it('is refused if memory or disk is too small, with the figures', () => {
    expect(refusal({})).toBeNull();
    expect(refusal({ needed: 9 * GB })).toMatchObject({ needed: 9 * GB, available: 8 * GB });
    // The estimate may be too low, so a quarter of the available memory stays in reserve.
    expect(refusal({ needed: 7 * GB })).toMatchObject({ needed: 7 * GB });
    expect(refusal({ cache: 11 * GB })).toMatchObject({ needed: 11 * GB, available: 10 * GB });
    // A GPU has its own memory, but uses the same disk.
    expect(refusal({ needed: 9 * GB, onProcessor: false })).toBeNull();
    expect(refusal({ needed: 9 * GB, onProcessor: false, cache: 11 * GB })).toMatchObject({
      needed: 11 * GB,
    });
  });

  it('advises a micro-batch that fits', () => {
    expect(refusal({ needed: 9 * GB, microBatchThatFits: 2 })).toMatchObject({
      microBatch: 2,
      next: expect.stringContaining('--micro-batch 2'),
    });
  });
});
