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
