import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { SwarmError } from '../../../../common/errors.ts';
import { formatBytes } from '../../../../common/text.ts';
import {
  DiskGuard,
  PAUSE_BELOW_BYTES,
  RESUME_FROM_BYTES,
} from '../../../../coordinator/recovery/disk-guard.ts';
import { needsOperator, pausedItself } from '../../../../coordinator/round/job-phase.ts';
import { silentLogger } from '../../../../monitor/logs/log.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { training } from '../scripted-peer.ts';
import { World } from '../world.ts';

async function guarded() {
  const home = await temporaryFolder();
  const world = new World({ rounds: { count: 3, minPeers: 1, localSteps: 1 } });
  const { peers, head } = await training(world, 1);
  const disk = { free: RESUME_FROM_BYTES };
  const jobs = () => world.coordinator.jobs();
  const deps = { jobs, clock: world.clock, log: silentLogger, freeBytes: async () => disk.free };
  const guard = new DiskGuard({ home }, deps);
  const state = () => world.run.driver.state;
  return { home, world, disk, guard, state, peers, head };
}

it('pauses jobs with the reason when the disk is almost full, and continues them when there is space', async () => {
  const { world, disk, guard, state } = await guarded();
  await guard.look();
  expect(state().phase).toBe('training');
  disk.free = PAUSE_BELOW_BYTES - 1;
  await guard.look();
  await world.until(() => state().phase === 'paused', 'the pause');
  expect(state().pauseCause).toBe('disk-full');
  for (const bytes of [disk.free, RESUME_FROM_BYTES]) expect(state().reason).toContain(formatBytes(bytes));
  disk.free = RESUME_FROM_BYTES - 1;
  await guard.look();
  expect(state().phase).toBe('paused');
  disk.free = RESUME_FROM_BYTES;
  await guard.look();
  expect(state().phase).not.toBe('paused');
});

it('does not continue a job that its operator has paused', async () => {
  const { world, guard, state } = await guarded();
  world.run.operate({ type: 'pause', reason: 'lunch' });
  await world.until(() => state().phase === 'paused', 'the pause');
  await guard.look();
  expect(state()).toMatchObject({ phase: 'paused', reason: 'lunch' });
});

it('does not continue a job that its operator has paused while the disk was full', async () => {
  const { world, disk, guard, state } = await guarded();
  disk.free = PAUSE_BELOW_BYTES - 1;
  await guard.look();
  await world.until(() => state().phase === 'paused', 'the pause');
  expect(pausedItself(state())).toBe(true);
  // Webhooks and `job wait` do not call the operator, because the job continues automatically.
  expect(needsOperator(state())).toBe(false);
  world.run.operate({ type: 'pause', reason: 'lunch' });
  expect(state()).toMatchObject({ phase: 'paused', reason: 'lunch', pauseCause: 'operator' });
  expect(() => world.kill()).toThrow();
  await world.start();
  disk.free = RESUME_FROM_BYTES;
  await guard.look();
  expect(state()).toMatchObject({ phase: 'paused', reason: 'lunch' });
});

it('continues a job that an older version, which recorded no causes, has paused for it', async () => {
  const { world, disk, guard, state } = await guarded();
  disk.free = PAUSE_BELOW_BYTES - 1;
  await guard.look();
  world.store.jobs.setPauseCause(world.toy.job, null);
  expect(() => world.kill()).toThrow();
  await world.start();
  expect(state().pauseCause).toBe('disk-full');
  disk.free = RESUME_FROM_BYTES;
  await guard.look();
  expect(state().phase).not.toBe('paused');
});

it('continues a job whose merge could not be written, with the closed round', async () => {
  const { world, guard, state, peers, head } = await guarded();
  world.laidOut = () => {
    throw new SwarmError('STORE_FULL', 'no space left');
  };
  await peers[0]!.submit(peers[0]!.seal(peers[0]!.update(head)));
  await world.until(() => state().phase === 'paused', 'the pause');
  expect(state()).toMatchObject({ pauseCause: 'disk-full', round: 1 });
  world.laidOut = () => {};
  await guard.look();
  await world.until(() => world.run.record.checkpoint.checkpoint.round === 1, 'the checkpoint');
});

it('keeps a reserve, and frees it when the disk is full', async () => {
  const { home, disk, guard } = await guarded();
  const reserve = join(home, 'reserve');
  await guard.look();
  expect(statSync(reserve).size).toBe(16 * 1024 * 1024);
  disk.free = 0;
  await guard.look();
  expect(existsSync(reserve)).toBe(false);
});
