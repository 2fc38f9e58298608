import { expect, test } from 'vitest';
import { trainersOn } from '../../../lora/train/trainers.ts';
import { checkPolicy, defaultPolicy, demandOf } from '../../../node/policy.ts';
import { toyJob } from '../../sim/job.ts';
import { signerOf } from '../../sim/process.ts';

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
      message: expect.stringMatching(new RegExp(`[1-9]\\S* GiB, this node lends .*; raise ${option}, or`)),
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
    const trainers = trainersOn(
      engines.map((engine) => ({ engine })),
      baseBits,
    );
    return demandOf(manifest, trainers).memory - demand.memory;
  };
  expect(extra(['onnx-cpu'])).toBe(0);
  expect(extra(['tfjs'])).toBe(0);
  expect(extra(['onnx-cuda', 'onnx-cuda'])).toBe(adapter);
  expect(extra(['onnx-cuda', 'onnx-cpu', 'tfjs'])).toBe(2 * adapter + base);
  expect(extra(['onnx-cpu', 'onnx-cpu'], 8)).toBe(adapter + base);
});

test('a machine with room for one trainer refuses two', () => {
  const lends = { ...defaultPolicy, maxMemoryBytes: demand.memory };
  expect(() => checkPolicy(manifest, lends, { processes: 1, bases: 1 })).not.toThrow();
  expect(() => checkPolicy(manifest, lends, { processes: 2, bases: 1 })).toThrow(
    expect.objectContaining({ code: 'POLICY_MEMORY' }),
  );
});
