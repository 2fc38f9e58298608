import { describe, expect, it } from 'vitest';
import { checkpointingLine, decideCheckpointing } from '../../../../lora/train/checkpointing.ts';

const GB = 1e9;
/** Of a training that takes 9.1 GB, or 4 with checkpointing. */
const takes = (checkpointing: boolean): number => (checkpointing ? 4 : 9.1) * GB;
const machine = { devices: [{ engine: 'onnx-cpu' }], baseBits: 32, available: 64 * GB, takes } as const;
const on = (reason: string) => ({ checkpointing: true, reason });
const off = { checkpointing: false, reason: null };

describe('gradient checkpointing', () => {
  it('stays off where there is memory enough', () => {
    expect(decideCheckpointing('auto', machine)).toEqual(off);
    expect(decideCheckpointing('auto', { ...machine, baseBits: 8 })).toEqual(off);
  });

  it('is on by itself with a base of 4 bits, on any engine', () => {
    const reason = 'as a base of 4 bits is for little memory';
    for (const engine of ['onnx-cpu', 'onnx-webgpu'] as const)
      expect(decideCheckpointing('auto', { ...machine, devices: [{ engine }], baseBits: 4 })).toEqual(
        on(reason),
      );
    expect(checkpointingLine(reason)).toBe(
      'gradient checkpointing: on, as a base of 4 bits is for little memory',
    );
  });

  it('is on by itself where it does not fit without, with a quarter to spare', () => {
    const reason = 'without it this would take 9.1 GB and a quarter to spare, of 6.0 GB available';
    expect(decideCheckpointing('auto', { ...machine, available: 6 * GB })).toEqual(on(reason));
    expect(decideCheckpointing('auto', { ...machine, available: 10 * GB }).checkpointing).toBe(true);
    expect(decideCheckpointing('auto', { ...machine, available: 12 * GB })).toEqual(off);
    // Where it would not fit with it either, less is missing.
    expect(decideCheckpointing('auto', { ...machine, available: 4 * GB }).checkpointing).toBe(true);
  });

  it('stays off on a GPU, whose memory is not known', () => {
    const devices = [{ engine: 'onnx-cuda' }, { engine: 'onnx-webgpu' }] as const;
    expect(decideCheckpointing('auto', { ...machine, devices, available: 6 * GB })).toEqual(off);
  });

  it('counts where the processor is one of several devices', () => {
    const devices = [{ engine: 'onnx-cuda' }, { engine: 'onnx-cpu' }] as const;
    const reason = 'without it 2 trainers would take 9.1 GB and a quarter to spare, of 6.0 GB available';
    expect(decideCheckpointing('auto', { ...machine, devices, available: 6 * GB })).toEqual(on(reason));
  });

  it('is what was asked for, whatever the base and the memory', () => {
    expect(decideCheckpointing(false, { ...machine, baseBits: 4, available: 0 })).toEqual(off);
    expect(decideCheckpointing(true, machine)).toEqual({ checkpointing: true, reason: null });
  });
});
