import { expect, test } from 'vitest';
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
  ['POLICY_BASE', { maxBaseBytes: demand.base - 1 }],
  ['POLICY_DISK', { maxDiskBytes: demand.disk - 1 }],
  ['POLICY_MEMORY', { maxMemoryBytes: demand.memory - 1 }],
])('%s', (code, limit) => {
  expect(() => checkPolicy(manifest, { ...defaultPolicy, ...limit })).toThrow(
    expect.objectContaining({ code }),
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
