import { describe, expect, test } from 'vitest';
import type { BaseBits } from '../../../lora/models/base-bits.ts';
import type { Devices } from '../../../lora/train/compute.ts';
import { ONE_TRAINER, trainersOf } from '../../../lora/train/trainers.ts';
import { checkPolicy, defaultPolicy, demandOf } from '../../../node/policy.ts';
import { signerOf } from '../../utils/signers.ts';
import { toyJob } from '../../utils/virtual/toy-job.ts';

const { manifest } = toyJob(signerOf(1));
const demand = demandOf(manifest);

test('a job that fits is taken', () => {
  expect(() => checkPolicy(manifest, defaultPolicy)).not.toThrow();
  const exact = { maxBaseBytes: demand.base, maxDiskBytes: demand.disk, maxMemoryBytes: demand.memory };
  expect(() => checkPolicy(manifest, exact)).not.toThrow();
});

test.each([
  ['POLICY_BASE', { maxBaseBytes: demand.base - 1 }, '--max-base'],
  ['POLICY_DISK', { maxDiskBytes: demand.disk - 1 }, '--max-disk'],
  ['POLICY_MEMORY', { maxMemoryBytes: demand.memory - 1 }, '--max-memory'],
])('%s says what is needed, what is lent, and which option lends more', (code, limit, option) => {
  expect(() => checkPolicy(manifest, { ...defaultPolicy, ...limit })).toThrow(
    expect.objectContaining({
      code,
      message: expect.stringMatching(
        new RegExp(`[1-9]\\S* GiB, this node lends .*; raise ${option}, .*or choose another job$`),
      ),
    }),
  );
});

test('the rows of a round count: a daemon draws them all before it trains', () => {
  const { rounds, training, data } = manifest;
  const long = {
    ...manifest,
    rounds: { ...rounds, localSteps: 10_000 },
    training: { ...training, batchSize: 4_096 },
  };
  expect(demandOf(long).memory - demand.memory).toBeGreaterThan(40_000_000 * 100);
  // Rows that the data do not have are those that are there, once more.
  const shards = data.shards.map((shard) => ({ ...shard, size: 2 * shard.size }));
  const more = demandOf({ ...long, data: { ...data, shards } }).memory - demandOf(long).memory;
  expect(more).toBe(2 * data.shards.reduce((sum, { size }) => sum + size, 0));
});

test('every trainer process counts: its adapter, and a base where it cannot share one', () => {
  const base = 4 * manifest.base.parameters;
  const adapter = 4 * 4 * manifest.adapter.parameters;
  const extra = (engines: ('onnx-cpu' | 'onnx-cuda' | 'tfjs')[], baseBits: 32 | 8 = 32): number => {
    const devices = engines.map((engine) => ({ engine })) as unknown as Devices;
    const trainers = trainersOf({ devices, baseBits });
    return demandOf(manifest, trainers).memory - demandOf(manifest, { ...ONE_TRAINER, baseBits }).memory;
  };
  expect(extra(['onnx-cpu'])).toBe(0);
  expect(extra(['tfjs'])).toBe(0);
  expect(extra(['onnx-cuda', 'onnx-cuda'])).toBe(adapter);
  expect(extra(['onnx-cuda', 'onnx-cpu', 'tfjs'])).toBe(2 * adapter + base);
  expect(extra(['onnx-cpu', 'onnx-cpu'], 8)).toBe(adapter + base / 2);
});

test('a machine with room for one trainer refuses two', () => {
  const lends = { ...defaultPolicy, maxMemoryBytes: demand.memory };
  expect(() => checkPolicy(manifest, lends, ONE_TRAINER)).not.toThrow();
  expect(() => checkPolicy(manifest, lends, { ...ONE_TRAINER, processes: 2 })).toThrow(
    expect.objectContaining({ code: 'POLICY_MEMORY' }),
  );
});

describe('a base of fewer bits', () => {
  const { parameters } = manifest.base;
  const check = (maxMemoryBytes: number, baseBits: BaseBits, processes = 1): void =>
    checkPolicy(
      manifest,
      { ...defaultPolicy, maxMemoryBytes },
      trainersOf({ devices: Array(processes).fill({ engine: 'onnx-cpu' }) as unknown as Devices, baseBits }),
    );
  const refusal = (message: RegExp) =>
    expect.objectContaining({ code: 'POLICY_MEMORY', message: expect.stringMatching(message) });

  test.each([
    [8, demand.memory - 4 * parameters + 2 * parameters],
    [4, demand.memory - 4 * parameters + 1.25 * parameters],
  ] as const)('of %i takes a job that does not fit with 32, and no more than it needs', (bits, needed) => {
    expect(() => check(needed, bits)).not.toThrow();
    expect(() => check(needed - 1, bits)).toThrow(refusal(/raise --max-memory, /));
    expect(() => check(needed, 32)).toThrow(
      refusal(new RegExp(`take --base-bits ${bits} \\(\\S+ GiB\\), or`)),
    );
  });

  test('is named only where the job fits with it, a copy for each process', () => {
    const none = refusal(/raise --max-memory, or choose another job$/);
    expect(() => check(demand.memory - 3 * parameters, 32)).toThrow(none);
    expect(() => check(demand.memory - 3 * parameters, 4)).toThrow(none);
    const { memory } = demandOf(manifest, { processes: 4, bases: 4, baseBits: 4 });
    // Four copies of 4 bits are more than the one of float32 that the processes share.
    expect(() => check(memory - 1, 4, 4)).toThrow(none);
    expect(() => check(memory - 1, 32, 4)).not.toThrow();
  });

  test('changes nothing of what is kept on disk', () => {
    expect(demandOf(manifest, { ...ONE_TRAINER, baseBits: 4 }).disk).toBe(demand.disk);
  });
});
