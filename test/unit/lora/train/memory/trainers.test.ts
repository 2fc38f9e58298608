import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { EngineName } from '../../../../../lora/engines/names.ts';
import { shareBatch } from '../../../../../lora/train/devices/shared-batch.ts';
import { memoryOfTrainers } from '../../../../../lora/train/memory/trainers.ts';

const one = { runtime: 1, weights: 100, activations: 1000, adapter: 10, total: 1111 };
const together = ([first, ...others]: [EngineName, ...EngineName[]], baseBits: 32 | 8 = 32) =>
  memoryOfTrainers(one, {
    devices: [{ engine: first }, ...others.map((engine) => ({ engine }))],
    baseBits,
  });

describe('the memory of all trainers together', () => {
  it('is the memory of the trainer if there is only one', () => {
    for (const engine of ['onnx-cpu', 'onnx-cuda', 'tfjs'] as const) expect(together([engine])).toEqual(one);
  });

  it('on the processor counts a process, an adapter and activations for each, and one mapped base', () => {
    const expected = { runtime: 3, weights: 100, activations: 3000, adapter: 30, total: 3133 };
    expect(together(['onnx-cpu', 'onnx-cpu', 'onnx-cpu'])).toEqual(expected);
    // Each process packs its own copy of the base.
    expect(together(['onnx-cpu', 'onnx-cpu'], 8).weights).toBe(200);
  });

  it('counts no activations of a GPU beside a processor, because the GPU has its own memory', () => {
    const expected = { runtime: 2, weights: 100, activations: 1000, adapter: 20, total: 1122 };
    expect(together(['onnx-cuda', 'onnx-cpu'])).toEqual(expected);
    expect(together(['onnx-cuda', 'onnx-cpu', 'onnx-cpu']).activations).toBe(2000);
    // The size of a GPU's memory is unknown, so the activations of one trainer count.
    expect(together(['onnx-cuda', 'onnx-cuda']).activations).toBe(1000);
    expect(together(['onnx-cpu', 'tfjs']).weights).toBe(200);
  });
});

describe('a batch shared by several devices', () => {
  const rows = (batchSize: number, microBatch: number, devices: number) =>
    shareBatch({ batchSize, microBatch }, devices).microBatch;

  it('has a micro-batch for each device', () => {
    expect([2, 3, 4, 8].map((devices) => rows(8, 8, devices))).toEqual([4, 3, 2, 1]);
    expect(rows(16, 8, 4)).toBe(4);
    // Nine rows in micro-batches of three would give only three parts for four devices, so two rows are used. Seventeen
    // rows in micro-batches of five give four parts.
    expect([rows(9, 9, 4), rows(17, 17, 4)]).toEqual([2, 5]);
    const { reason } = shareBatch({ batchSize: 8, microBatch: 8 }, 2);
    expect(reason).toMatch(/^4 .*\b8 rows\b.*\b2 devices\b/);
  });

  it('with fewer rows than devices gives one row to as many as possible', () => {
    const { microBatch, reason } = shareBatch({ batchSize: 2, microBatch: 2 }, 3);
    expect(microBatch).toBe(1);
    expect(reason).toMatch(/^1 .*\b2 rows\b.*\b2\b.*\b3 devices\b/);
    expect(shareBatch({ batchSize: 2, microBatch: 1 }, 3).reason).toBeNull();
  });

  it('keeps its micro-batches if there are enough for all devices', () => {
    for (const [batchSize, microBatch, devices] of [
      [8, 8, 1],
      [2, 8, 1],
      [8, 4, 2],
      [8, 5, 2],
      [8, 1, 8],
    ] as const) {
      expect(shareBatch({ batchSize, microBatch }, devices)).toEqual({ microBatch, reason: null });
    }
  });

  it('never has fewer parts than devices, nor larger micro-batches than before', () => {
    const count = fc.integer({ min: 1, max: 4096 });
    fc.assert(
      fc.property(count, count, fc.integer({ min: 1, max: 32 }), (batchSize, microBatch, devices) => {
        const shared = rows(batchSize, microBatch, devices);
        expect(shared).toBeLessThanOrEqual(microBatch);
        expect(Number.isInteger(shared) && shared >= 1).toBe(true);
        expect(Math.ceil(batchSize / shared)).toBeGreaterThanOrEqual(Math.min(devices, batchSize));
      }),
    );
  });
});
