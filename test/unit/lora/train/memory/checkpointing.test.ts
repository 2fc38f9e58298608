import { describe, expect, it } from 'vitest';
import { type ComputeOnDevices, processorCompute } from '../../../../../lora/train/compute.ts';
import { decideCheckpointing } from '../../../../../lora/train/memory/checkpointing.ts';

const GB = 1e9;

/** Returns the decision for a run that needs 9.1 GB, or 4 GB with gradient checkpointing. */
function decide(change: Partial<ComputeOnDevices> = {}, available = 64 * GB) {
  const compute = { ...processorCompute(), checkpointing: 'auto' as const, ...change };
  const needs = ({ checkpointing }: { checkpointing: boolean }) => (checkpointing ? 4 : 9.1) * GB;
  const decision = decideCheckpointing(compute, { available, needs });
  return { on: decision.compute.checkpointing, reason: decision.reason };
}

const off = { on: false, reason: null };

describe('gradient checkpointing by default', () => {
  it('is off if memory is sufficient', () => {
    expect(decide()).toEqual(off);
    expect(decide({ baseBits: 8 })).toEqual(off);
  });

  it.each(['onnx-cpu', 'onnx-webgpu'] as const)('is on with a 4-bit base, on %s', (engine) => {
    expect(decide({ devices: [{ engine }], baseBits: 4 })).toEqual({
      on: true,
      reason: expect.stringContaining('4-bit'),
    });
  });

  it('is on if the run does not fit without it, with a quarter in reserve', () => {
    expect(decide({}, 6 * GB)).toEqual({ on: true, reason: expect.stringMatching(/9\.1 GB .* 6\.0 GB/) });
    expect(decide({}, 10 * GB).on).toBe(true);
    expect(decide({}, 12 * GB)).toEqual(off);
  });

  it('is on if the run does not fit with it either, because the shortfall is smaller', () => {
    expect(decide({}, 4 * GB).on).toBe(true);
  });

  it('keeps to the memory limit', () => {
    expect(decide({ memoryLimit: 6 * GB })).toEqual({
      on: true,
      reason: expect.stringContaining('6.0 GB'),
    });
  });

  it('is off on GPUs, whose memory is unknown', () => {
    expect(decide({ devices: [{ engine: 'onnx-cuda' }, { engine: 'onnx-webgpu' }] }, 6 * GB)).toEqual(off);
  });

  it('counts the memory if one of several devices is the processor', () => {
    expect(decide({ devices: [{ engine: 'onnx-cuda' }, { engine: 'onnx-cpu' }] }, 6 * GB)).toEqual({
      on: true,
      reason: expect.stringContaining('2 trainers'),
    });
  });
});

it('a setting of the user decides, whatever the base and the memory', () => {
  expect(decide({ checkpointing: false, baseBits: 4 }, 0)).toEqual(off);
  expect(decide({ checkpointing: true })).toEqual({ on: true, reason: null });
});
