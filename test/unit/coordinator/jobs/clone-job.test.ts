import { describe, expect, test } from 'vitest';
import type { JobRun } from '../../../../coordinator/job-run.ts';
import { type CloneDeps, type CloneOptions, prepareClone } from '../../../../coordinator/jobs/clone-job.ts';
import { cloneName } from '../../../../coordinator/jobs/clone-name.ts';
import { cloneSettings } from '../../../../coordinator/jobs/clone-settings.ts';
import { withCode } from '../../../utils/source/codes.ts';
import { MemoryBlobs } from '../../../utils/virtual/memory-blobs.ts';
import { COORDINATOR, World } from '../world.ts';

const { signal } = new AbortController();

/** Prepares a copy of the world's job. Its adapter has the same shape, so no base is opened. */
async function prepare(world: World, options: CloneOptions) {
  const { clock, store, random, disk } = world;
  const blobs = new MemoryBlobs({ disk, clock, random, isAlive: () => true });
  const measured: string[] = [];
  const deps = {
    home: 'none',
    store,
    clock,
    blobs,
    validator: {
      measure: async ({ manifest }: { manifest: { name: string } }) => {
        measured.push(manifest.name);
        return [{ lossSum: 30, tokens: 10 }];
      },
    },
    scope: { hold: async () => {}, put: (bytes: Uint8Array) => blobs.put(bytes) },
    onProgress: () => {},
    signal,
  } as unknown as CloneDeps;
  const prepared = await world.settle(prepareClone(world.run, options, deps));
  const start = (): Promise<JobRun> =>
    world.settle(world.coordinator.create(prepared).then(({ run }) => run));
  return { prepared, start, measured };
}

describe('a copy of a job', () => {
  test('has its base, data, first adapter and base loss, and the changed settings', async () => {
    const world = await new World().start();
    world.run.change({ learningRate: 5e-4, count: 12 }, { reason: '' });
    const { prepared, start, measured } = await prepare(world, {
      changes: { 'training.clipNorm': 2, 'rounds.localSteps': 7 },
    });
    const { manifest } = world.toy;
    expect(prepared.manifest).toEqual({
      ...manifest,
      coordinator: COORDINATOR.peerId,
      name: 'toy-2',
      training: { ...manifest.training, clipNorm: 2, learningRate: 5e-4 },
      rounds: { ...manifest.rounds, localSteps: 7, count: 12 },
      createdAt: world.clock.now(),
    });
    expect(prepared).toMatchObject({ baseLoss: 1, baseTokens: 64, admission: { kind: 'open' }, token: null });
    expect(measured).toEqual([]);

    const run = await start();
    expect(run.driver.state.phase).toBe('waiting');
    const before = await prepare(world, { name: 'toy-2' });
    await expect(before.start()).rejects.toMatchObject({ code: 'JOB_EXISTS' });
    expect((await prepare(world, {})).prepared.manifest.name).toBe('toy-3');
  });

  test('measures the base again if it checks other held-out rows', async () => {
    const world = await new World().start();
    const { prepared, measured } = await prepare(world, {
      name: 'other',
      changes: { 'acceptance.heldOutRows': 2 },
    });
    expect(measured).toEqual(['other']);
    expect(prepared).toMatchObject({ baseLoss: 3, baseTokens: 10 });
  });

  test('has twice its new rank as alpha, unless alpha is set or the rank stays', async () => {
    const { run } = await new World().start();
    const { alpha } = run.context.manifest.lora;
    const alphaWith = (changes: CloneOptions['changes']) =>
      cloneSettings(run, null, changes!).spec.lora.alpha;
    expect(alphaWith({ 'lora.rank': 24 })).toBe(48);
    expect(alphaWith({ lora: { rank: 24 } })).toBe(48);
    expect(alphaWith({ 'lora.rank': 24, 'lora.alpha': 5 })).toBe(5);
    expect(alphaWith({ 'lora.dropout': 0.5 })).toBe(alpha);
  });

  test('gets invites of its own', async () => {
    const world = await new World({ admission: { kind: 'invite' }, token: 'secret' }).start();
    const { token } = (await prepare(world, {})).prepared;
    expect(token).not.toBeNull();
    expect(token).not.toBe('secret');
  });

  test.each([
    ['data.heldOut', 0.2, 'SETTING_FIXED'],
    ['data.template', 'chatml', 'SETTING_FIXED'],
    ['data', { train: 'a.txt', heldOut: 0.2 }, 'SETTING_FIXED'],
    ['data.packing', 'none', 'SETTING_INVALID'],
    ['data.trains', 'a.txt', 'SETTING_INVALID'],
    ['base', 'x', 'SETTING_FIXED'],
    ['training.sequenceLength', 64, 'SETTING_FIXED'],
    ['name', 'x', 'SETTING_FIXED'],
    ['lora.rankPattern.q_proj', 2, 'SETTING_INVALID'],
    ['lora.ranks', 2, 'JOB_SPEC'],
    ['rounds.count', 0, 'JOB_SPEC'],
  ])('cannot change %s to %s', async (key, value, code) => {
    const world = await new World().start();
    await expect(prepare(world, { changes: { [key]: value } })).rejects.toEqual(withCode(code));
  });
});

test('the name of a copy has the lowest free number, and is never too long', () => {
  const taken = new Set(['a-2', 'a-3']);
  expect(cloneName('a', (name) => taken.has(name))).toBe('a-4');
  const long = 'x'.repeat(64);
  expect(cloneName(long, () => false)).toBe(`${'x'.repeat(62)}-2`);
});
