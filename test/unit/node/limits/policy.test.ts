import { describe, expect, test } from 'vitest';
import type { BaseBits } from '../../../../lora/models/base/base-bits.ts';
import type { Devices } from '../../../../lora/train/compute.ts';
import { RUNTIME_BYTES } from '../../../../lora/train/memory/estimate.ts';
import { ONE_TRAINER, trainersOf } from '../../../../lora/train/memory/trainers.ts';
import { checkPolicy, defaultPolicy, demandOf } from '../../../../node/limits/policy.ts';
import { withCode } from '../../../utils/source/codes.ts';
import { signerOf } from '../../../utils/swarm/signers.ts';
import { toyJob } from '../../../utils/virtual/toy-job.ts';

const { manifest } = toyJob(signerOf(1));
const demand = demandOf(manifest);
const MIB = 2 ** 20;

test('accepts a job that fits', () => {
  expect(() => checkPolicy(manifest, defaultPolicy)).not.toThrow();
  const exact = { maxBaseBytes: demand.base, maxDiskBytes: demand.disk, maxMemoryBytes: demand.memory };
  expect(() => checkPolicy(manifest, exact)).not.toThrow();
});

test.each([
  ['POLICY_BASE', { maxBaseBytes: demand.base - 1 }, '--max-base'],
  ['POLICY_DISK', { maxDiskBytes: demand.disk - 1 }, '--max-disk'],
  ['POLICY_MEMORY', { maxMemoryBytes: demand.memory - 1 }, '--max-memory'],
])(
  '%s names the bytes needed, the bytes lent, and the option that raises the limit',
  (code, limit, option) => {
    const [allowed] = Object.values(limit);
    expect(() => checkPolicy(manifest, { ...defaultPolicy, ...limit })).toThrow(
      expect.objectContaining({
        code,
        values: { job: manifest.name, allowed, needed: allowed! + 1 },
        next: expect.stringContaining(option),
      }),
    );
  },
);

test('counts the rows of a round, because the daemon loads them all before it trains', () => {
  const { rounds, training, data } = manifest;
  const long = {
    ...manifest,
    rounds: { ...rounds, localSteps: 10_000 },
    training: { ...training, batchSize: 4_096 },
  };
  expect(demandOf(long).memory - demand.memory).toBeGreaterThan(40_000_000 * 100);
  // A round longer than the data repeats the same rows, so it needs no more memory.
  const shards = data.shards.map((shard) => ({ ...shard, size: 2 * shard.size }));
  const more = demandOf({ ...long, data: { ...data, shards } }).memory - demandOf(long).memory;
  expect(more).toBe(2 * data.shards.reduce((sum, { size }) => sum + size, 0));
});

test('counts the adapter of every trainer process, and a base for each that cannot share one', () => {
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

test('refuses two trainers if only one fits', () => {
  const lends = { ...defaultPolicy, maxMemoryBytes: demand.memory };
  expect(() => checkPolicy(manifest, lends, { trainers: ONE_TRAINER })).not.toThrow();
  expect(() => checkPolicy(manifest, lends, { trainers: { ...ONE_TRAINER, processes: 2 } })).toThrow(
    withCode('POLICY_MEMORY'),
  );
});

test('counts the processes of the node in a memory limit of the owner', () => {
  const own = 223 * MIB;
  const check = (maxMemoryBytes: number, processes = 1, counts: number | null = own): void => {
    const policy = { ...defaultPolicy, maxMemoryBytes, processBytes: () => counts };
    checkPolicy(manifest, policy, { trainers: { ...ONE_TRAINER, processes } });
  };
  const needed = demand.memory + own + RUNTIME_BYTES;
  expect(() => check(needed)).not.toThrow();
  expect(() => check(needed - 1)).toThrow(
    expect.objectContaining({
      code: 'POLICY_MEMORY',
      values: { job: manifest.name, allowed: needed - 1, needed },
      message: expect.stringContaining('0.36 GiB without any job'),
    }),
  );
  expect(() => check(needed + RUNTIME_BYTES, 2)).toThrow(withCode('POLICY_MEMORY'));
  expect(() => check(demand.memory, 1, null)).not.toThrow();
  const four = demandOf(manifest, { ...ONE_TRAINER, baseBits: 4 }).memory + own + RUNTIME_BYTES;
  expect(() => check(four)).toThrow(
    expect.objectContaining({ next: expect.stringContaining('--base-bits 4 (needs 0.36 GiB)') }),
  );
});

describe('several jobs at once', () => {
  const { parameters } = manifest.base;
  const adapter = 4 * manifest.adapter.parameters;
  const other = { ...manifest, name: 'other' };
  const foreign = { ...other, base: { ...manifest.base, digest: 'f'.repeat(64) } };

  test('count a shared base and shared data once', () => {
    expect(demandOf(manifest, ONE_TRAINER, [other]).disk - demand.disk).toBe(6 * adapter);
    const base = demand.base + 4 * parameters;
    expect(demandOf(manifest, ONE_TRAINER, [foreign]).disk - demand.disk).toBe(6 * adapter + base);
  });

  test('need the memory of one trainer', () => {
    const more = (another: typeof manifest): number =>
      demandOf(manifest, ONE_TRAINER, [another]).memory - demand.memory;
    expect(more(foreign)).toBe(more(other));
    expect(more(other)).toBeLessThan(demand.memory - 4 * parameters);
    // Both jobs may have to keep the moments of a round that waits for the other job.
    const inDaemon = (rounds: Partial<typeof manifest.rounds>) =>
      more({ ...other, rounds: { ...other.rounds, ...rounds } });
    expect(inDaemon({ localSteps: 0 })).toBe((4 + 2) * adapter + 2 * adapter);
  });

  test('are refused if they need too much together, with the number of the other jobs', () => {
    const lends = { ...defaultPolicy, maxDiskBytes: demand.disk };
    expect(() => checkPolicy(manifest, lends)).not.toThrow();
    const check = () => checkPolicy(manifest, lends, { others: [foreign] });
    expect(check).toThrow(
      expect.objectContaining({ code: 'POLICY_DISK', message: expect.stringContaining('1 other job') }),
    );
  });
});

describe('fewer base bits', () => {
  const { parameters } = manifest.base;
  const check = (maxMemoryBytes: number, baseBits: BaseBits, processes = 1): void =>
    checkPolicy(
      manifest,
      { ...defaultPolicy, maxMemoryBytes },
      {
        trainers: trainersOf({
          devices: Array(processes).fill({ engine: 'onnx-cpu' }) as unknown as Devices,
          baseBits,
        }),
      },
    );
  const refusal = (next: unknown) => expect.objectContaining({ code: 'POLICY_MEMORY', next });
  const suggests = (bits: number) => refusal(expect.stringContaining(`--base-bits ${bits} `));
  const suggestsNoBits = refusal(expect.not.stringContaining('--base-bits'));

  test.each([
    [8, demand.memory - 4 * parameters + 2 * parameters],
    [4, demand.memory - 4 * parameters + 1.25 * parameters],
  ] as const)('%i bits fit a job that does not fit with 32, in exactly the memory needed', (bits, needed) => {
    expect(() => check(needed, bits)).not.toThrow();
    expect(() => check(needed - 1, bits)).toThrow(refusal(expect.stringContaining('--max-memory')));
    expect(() => check(needed, 32)).toThrow(suggests(bits));
  });

  test('are suggested only if the job fits with a copy for each process', () => {
    expect(() => check(demand.memory - 3 * parameters, 32)).toThrow(suggestsNoBits);
    expect(() => check(demand.memory - 3 * parameters, 4)).toThrow(suggestsNoBits);
    const { memory } = demandOf(manifest, { processes: 4, bases: 4, baseBits: 4 });
    // Each of four processes has its own 4-bit copy of the base. These copies are larger than the one float32 copy that the
    // processes share.
    expect(() => check(memory - 1, 4, 4)).toThrow(suggestsNoBits);
    expect(() => check(memory - 1, 32, 4)).not.toThrow();
  });

  test('need the same disk space', () => {
    expect(demandOf(manifest, { ...ONE_TRAINER, baseBits: 4 }).disk).toBe(demand.disk);
  });
});
