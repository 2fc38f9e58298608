import { describe, expect, test } from 'vitest';
import type { JobRun } from '../../../coordinator/job-run.ts';
import type { PreparedJob } from '../../../coordinator/record/new-job.ts';
import type { Manifest } from '../../../protocol/job/manifest.ts';
import { withCode } from '../../utils/source/codes.ts';
import { ScriptedPeer } from './scripted-peer.ts';
import { World } from './world.ts';

/** Creates a second job beside the job of the world. */
function create(
  world: World,
  name: string,
  place: Pick<PreparedJob, 'priority' | 'after'> = {},
  rounds: Partial<Manifest['rounds']> = {},
): Promise<JobRun> {
  const prepared = world.prepared();
  const { manifest } = prepared;
  const changed = { ...manifest, name, rounds: { ...manifest.rounds, ...rounds } };
  const creating = world.coordinator.create({ ...prepared, ...place, content: name, manifest: changed });
  return world.settle(creating.then(({ run }) => run));
}

function afterToy(world: World): { after: { job: string; name: string } } {
  return { after: { job: world.toy.job, name: 'toy' } };
}

const phases = (world: World): Record<string, string> =>
  Object.fromEntries(
    world.coordinator.jobs().map(({ context, driver }) => [context.stored.name, driver.state.phase]),
  );

describe('a queued job', () => {
  test('opens no round while it is queued, and opens when the other job is stopped', async () => {
    const world = await new World({ rounds: { minPeers: 1 } }).start();
    const run = await create(world, 'next', afterToy(world));
    const peer = new ScriptedPeer(1, world);
    peer.job = run.context.job;
    await peer.join();
    await world.pass(20_000);
    expect(phases(world)).toEqual({ toy: 'waiting', next: 'queued' });
    expect(await peer.head()).toMatchObject({ phase: 'waiting', reason: expect.stringContaining('toy') });

    world.run.operate({ type: 'stop', reason: '' });
    expect(phases(world)).toEqual({ toy: 'finished', next: 'waiting' });
    await peer.heartbeat('awaiting');
    await world.until(() => run.driver.state.phase === 'training', 'its first round');
    const events = world.store.events.after(run.context.job, 0, 100).map(({ type }) => type);
    expect(events.slice(0, 2)).toEqual(['job-created', 'queued']);
    expect(events).toContain('unqueued');
  });

  test('stays queued after a restart of the coordinator', async () => {
    const world = await new World().start();
    await create(world, 'next', afterToy(world));
    expect(() => world.kill()).toThrow();
    await world.start();
    expect(phases(world)).toEqual({ toy: 'waiting', next: 'queued' });
  });

  test('opens at the next start if the coordinator is killed when the other job ends', async () => {
    const world = await new World().start();
    await create(world, 'next', afterToy(world));
    world.failpoint = (name) => {
      if (name === 'head-recorded') world.kill();
    };
    expect(() => world.run.operate({ type: 'stop', reason: '' })).toThrow();
    world.failpoint = () => {};
    await world.start();
    expect(phases(world)).toEqual({ toy: 'finished', next: 'waiting' });
  });

  test('opens after the hold that follows a restart, if the other job ends meanwhile', async () => {
    const world = await new World({ awaitsNodes: true }).start();
    const next = await create(world, 'next', afterToy(world));
    // A job with only one head is not held after a restart, so this makes more heads. The job then has later heads and
    // is queued, like a job that was opened after the backup.
    next.operate({ type: 'resume' });
    next.operate({ type: 'pause', reason: '' });
    next.operate({ type: 'resume' });
    world.store.jobs.setPlace(next.context.job, { priority: 0, afterJob: world.toy.job });
    expect(() => world.kill()).toThrow();
    await world.start();
    expect(world.coordinator.find('next').driver.isHeld).toBe(true);
    world.coordinator.find('toy').operate({ type: 'stop', reason: '' });
    expect(phases(world)).toEqual({ toy: 'finished', next: 'queued' });
    await world.pass(3 * 60_000);
    expect(phases(world)).toEqual({ toy: 'finished', next: 'waiting' });
  });

  test('is left alone while it is being started again', async () => {
    const world = await new World().start();
    const next = await create(world, 'next', afterToy(world));
    Object.assign(next.context, { signal: AbortSignal.abort() });
    world.run.operate({ type: 'stop', reason: '' });
    expect(phases(world)).toEqual({ toy: 'finished', next: 'queued' });
  });

  test('is opened by its operator, and cannot be paused or rolled back', async () => {
    const world = await new World().start();
    const run = await create(world, 'next', afterToy(world));
    expect(() => run.operate({ type: 'pause', reason: '' })).toThrow(withCode('JOB_QUEUED'));
    expect(() => run.rollBack(0)).toThrow(withCode('JOB_QUEUED'));
    run.operate({ type: 'resume' });
    expect(run.driver.state.phase).toBe('waiting');
    expect(() => world.kill()).toThrow();
    await world.start();
    expect(phases(world)).toEqual({ toy: 'waiting', next: 'waiting' });
  });

  test('is opened at once if the other job has ended before', async () => {
    const world = await new World().start();
    world.run.operate({ type: 'stop', reason: '' });
    const run = await create(world, 'next', afterToy(world));
    expect(run.driver.state.phase).toBe('waiting');
  });
});

test('nodes see open jobs by priority, then queued jobs, then jobs that are over', async () => {
  const world = await new World().start();
  await create(world, 'low', { priority: -1 });
  await create(world, 'high', { priority: 5 });
  await create(world, 'queued', { priority: 9, ...afterToy(world) });
  const over = await create(world, 'over', { priority: 9 });
  over.operate({ type: 'stop', reason: '' });
  const { jobs } = await new ScriptedPeer(1, world).ask('jobs', { invite: null });
  expect(jobs.map(({ name, phase }) => `${name} ${phase}`)).toEqual([
    'high waiting',
    'toy waiting',
    'low waiting',
    'queued queued',
    'over finished',
  ]);
});

test('queued jobs open in the order of their priorities', async () => {
  const world = await new World().start();
  await create(world, 'low', { priority: 1, ...afterToy(world) });
  await create(world, 'high', { priority: 2, ...afterToy(world) });
  const opened: string[] = [];
  world.coordinator.onEvent(({ type }, name) => void (type === 'unqueued' && opened.push(name)));
  world.run.operate({ type: 'stop', reason: '' });
  expect(opened).toEqual(['high', 'low']);
});

test('jobs that share nodes each keep their own minPeers', async () => {
  const world = await new World({ rounds: { minPeers: 2 } }).start();
  const large = await create(world, 'large', {}, { minPeers: 3 });
  const peers = [1, 2, 3].map((number) => new ScriptedPeer(number, world));
  const jobs = [world.toy.job, large.context.job];
  const beat = async (some: readonly ScriptedPeer[]): Promise<void> => {
    for (const job of jobs) {
      for (const peer of some) {
        peer.job = job;
        await peer.join();
      }
    }
  };
  await beat(peers.slice(0, 2));
  await world.until(() => world.run.driver.state.phase === 'training', 'a round of the small job');
  await beat(peers.slice(0, 2));
  expect(phases(world)).toEqual({ toy: 'training', large: 'waiting' });

  await beat(peers);
  await world.until(() => large.driver.state.phase === 'training', 'a round of the large job');
  expect(large.driver.state.current?.assigned).toHaveLength(3);
  expect(world.run.driver.state.current?.assigned).toHaveLength(2);

  // A node that leaves one job stays in the other.
  await peers[2]!.ask('leave', { job: large.context.job, reason: '' });
  expect(Object.keys(large.driver.state.present)).toHaveLength(2);
  expect(Object.keys(world.run.driver.state.present)).toHaveLength(3);
});
