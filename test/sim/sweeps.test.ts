import { describe, expect, onTestFinished, test } from 'vitest';
import { sweepViews } from '../../coordinator/api/sweep-views.ts';
import { bestCheckpoint } from '../../coordinator/best-checkpoint.ts';
import type { JobRun } from '../../coordinator/job-run.ts';
import { JobPublisher } from '../../coordinator/jobs/job-publisher.ts';
import { Sweeps } from '../../coordinator/jobs/sweeps.ts';
import { silentLogger } from '../../monitor/logs/log.ts';
import type { JobEvent } from '../../protocol/api/job-events.ts';
import { ScriptedPeer } from '../unit/coordinator/scripted-peer.ts';
import { COORDINATOR, World } from '../unit/coordinator/world.ts';
import { eventuallyHolds } from '../utils/eventually.ts';
import { openTestRegistry, smallPeftFolder } from '../utils/registry/registry.ts';
import { withCode } from '../utils/source/codes.ts';

/**
 * By how much an update of each job lowers the values of the adapter. The larger this is, the faster the held-out loss
 * falls.
 */
const DELTAS = { toy: 0.01, slow: 0.002, fast: 0.03, slowest: 0.001 } as const;
type Name = keyof typeof DELTAS;
const NAMES = Object.keys(DELTAS) as Name[];

function sweepsOf(world: World): Sweeps {
  const { coordinator, store } = world;
  const sweeps = new Sweeps({
    coordinator,
    store,
    clock: world.clock.process(() => true),
    log: silentLogger,
  });
  coordinator.onEvent((event) => sweeps.observe(event));
  onTestFinished(() => sweeps.stop());
  return sweeps;
}

/** Starts a coordinator with a sweep of four jobs. */
async function startSweep(
  rounds = 1,
): Promise<{ world: World; sweeps: Sweeps; run: (name: Name) => JobRun }> {
  const world = await new World({ rounds: { minPeers: 1, count: 6 }, baseLoss: 1000 }).start();
  const prepared = world.prepared();
  for (const name of NAMES.slice(1)) {
    const manifest = { ...prepared.manifest, name };
    await world.settle(world.coordinator.create({ ...prepared, content: name, manifest }));
  }
  const sweeps = sweepsOf(world);
  sweeps.create({ name: 'race', rounds, jobs: NAMES.map((job) => ({ job, variant: job })) });
  return { world, sweeps, run: (name) => world.coordinator.find(name) };
}

/** Lets a node train each of some jobs until the job has ended or has enough checkpoints. */
async function train(world: World, names: readonly Name[], checkpoints: number): Promise<void> {
  const isDone = (name: Name): boolean => {
    const { phase, committed } = world.coordinator.find(name).driver.state;
    return phase === 'finished' || committed >= checkpoints;
  };
  for (const name of names) {
    const peer = new ScriptedPeer(1 + NAMES.indexOf(name), world);
    peer.job = world.coordinator.find(name).context.job;
    await peer.work(
      () => DELTAS[name],
      () => isDone(name),
    );
  }
  await world.until(() => names.every(isDone), 'the checkpoints');
}

const phases = (world: World): string[] =>
  NAMES.map((name) => `${name} ${world.coordinator.find(name).driver.state.phase}`);

describe('a sweep', () => {
  test('stops the half with the higher losses again and again, until one job has won', async () => {
    const { world, run } = await startSweep();
    await train(world, NAMES, 1);
    await eventuallyHolds(() => expect(run('slowest').driver.state.phase).toBe('finished'));
    expect(run('slow').driver.state.phase).toBe('finished');
    await train(world, ['toy', 'fast'], 2);
    await eventuallyHolds(() => expect(run('toy').driver.state.phase).toBe('finished'));

    expect(run('fast').driver.state.phase).not.toBe('finished');
    const [view] = sweepViews(world);
    expect(view).toMatchObject({ name: 'race', winner: 'fast' });
    expect(view!.jobs.map(({ name, outAt }) => [name, outAt])).toEqual([
      ['toy', 2],
      ['slow', 1],
      ['fast', null],
      ['slowest', 1],
    ]);
    expect(world.store.sweeps.wonBy(run('fast').context.job)).toEqual(['race']);
    expect(world.store.sweeps.wonBy(run('toy').context.job)).toEqual([]);
    const events = world.store.events.after(run('fast').context.job, 0, 200);
    expect(events.filter(({ type }) => type === 'sweep-won')).toHaveLength(1);
  });

  test('adds the best checkpoint of its winner to the registry, with the tag `winner`', async () => {
    const { world, run } = await startSweep();
    const { base } = world.toy.manifest;
    const folder = await smallPeftFolder(1, base.digest);
    const { registry, home } = await openTestRegistry();
    const publisher = new JobPublisher(
      { registry: home },
      {
        coordinator: world.coordinator,
        store: world.store,
        folders: { path: () => folder },
        log: silentLogger,
        clock: world.clock.process(() => true),
        signer: COORDINATOR,
        baseFolder: async () => 'home/bases/toy',
      },
    );
    world.coordinator.onEvent((event) => publisher.observe(event));
    onTestFinished(() => publisher.stop());
    await train(world, NAMES, 1);
    await eventuallyHolds(() => expect(run('slowest').driver.state.phase).toBe('finished'));
    await train(world, ['toy', 'fast'], 2);
    await eventuallyHolds(() => expect(run('toy').driver.state.phase).toBe('finished'));
    expect(registry.versions('race')).toEqual([]);
    await train(world, ['fast'], 6);
    await eventuallyHolds(() => expect(registry.versions('race')).toHaveLength(1));
    const { job } = run('fast').context;
    const best = bestCheckpoint(job, world.store)!;
    const { manifest } = registry.resolve('race:winner');
    expect(manifest.job).toMatchObject({ digest: job, round: best.round, checkpoint: best.digest });
    expect(registry.tagLog('race', 'winner')).toMatchObject([{ reason: expect.stringContaining('fast') }]);
  });

  test('waits for a paused job, says why, and goes on without it when its operator stops it', async () => {
    const { world, run } = await startSweep();
    await train(world, ['toy', 'slow', 'slowest'], 1);
    run('fast').operate({ type: 'pause', reason: 'the disk is full' });
    await eventuallyHolds(() => expect(run('fast').driver.state.phase).toBe('paused'));
    const pauses = () =>
      sweepViews(world)[0]!.jobs.flatMap(({ name, pauseReason }) =>
        pauseReason === null ? [] : [[name, pauseReason]],
      );
    expect(pauses()).toEqual([['fast', 'the disk is full']]);
    expect(phases(world)).not.toContain('slowest finished');
    run('fast').operate({ type: 'stop', reason: '' });
    await eventuallyHolds(() => expect(run('slowest').driver.state.phase).toBe('finished'));
    expect(pauses()).toEqual([]);
    expect(run('toy').driver.state.phase).not.toBe('finished');
  });

  test('fails without a winner if no job has a loss, also after a restart', async () => {
    const { world, run } = await startSweep();
    for (const name of NAMES) run(name).operate({ type: 'stop', reason: '' });
    await eventuallyHolds(() =>
      expect(sweepViews(world)[0]!.error).toMatchObject({ code: 'SWEEP_UNMEASURED' }),
    );
    expect(sweepViews(world)[0]!.winner).toBeNull();
    const failures = () =>
      NAMES.flatMap((name) => world.store.events.after(run(name).context.job, 0, 200)).filter(
        ({ type }) => type === 'sweep-failed',
      );
    expect(failures()).toHaveLength(NAMES.length);
    expect(() => world.kill()).toThrow();
    await world.start();
    sweepsOf(world).start();
    expect(failures()).toHaveLength(NAMES.length);
    expect(NAMES.flatMap((name) => world.store.sweeps.wonBy(run(name).context.job))).toEqual([]);
  });

  test('does not judge a job by a checkpoint that was rolled back', async () => {
    const { world, run } = await startSweep();
    await train(world, ['fast'], 1);
    run('fast').rollBack(0);
    await world.until(() => run('fast').driver.state.committed >= 2, 'the roll-back');
    await train(world, ['toy', 'slow', 'slowest'], 1);
    await world.pass(100);
    expect(phases(world)).not.toContain('slowest finished');
    await train(world, ['fast'], 3);
    await eventuallyHolds(() => expect(run('slowest').driver.state.phase).toBe('finished'));
    const { job } = run('fast').context;
    const newest = world.store.rounds.newestCheckpoints(job, 1)[0]!;
    const entry = world.store.sweeps.entries('race').find((one) => one.job === job)!;
    expect(entry).toMatchObject({ outAt: null, loss: newest.heldOutLoss });
  });

  test('waits for all jobs, and drops one that its operator stopped', async () => {
    const { world, run } = await startSweep();
    await train(world, ['toy', 'slow', 'slowest'], 1);
    expect(phases(world)).not.toContain('slowest finished');
    run('fast').operate({ type: 'stop', reason: '' });
    await eventuallyHolds(() => expect(run('slowest').driver.state.phase).toBe('finished'));
    expect(
      sweepViews(world)[0]!
        .jobs.filter(({ outAt }) => outAt === 1)
        .map(({ name }) => name),
    ).toEqual(['fast', 'slowest']);
  });

  test('goes on after a restart between the record of a halving and the stop of its jobs', async () => {
    const { world, sweeps, run } = await startSweep();
    sweeps.stop();
    const judged = NAMES.map((name) => ({
      job: run(name).context.job,
      loss: 1,
      isOut: name === 'slow' || name === 'slowest',
    }));
    world.store.sweeps.halve({ name: 'race', halvings: 0 }, judged);
    expect(() => world.kill()).toThrow();
    await world.start();
    sweepsOf(world).start();
    expect(phases(world)).toEqual(['toy waiting', 'slow finished', 'fast waiting', 'slowest finished']);
  });

  test('waits while a remaining job lacks a later head, and goes on when this job has caught up', async () => {
    const { world, sweeps, run } = await startSweep();
    const { context } = run('slowest');
    Object.assign(context, { isBehind: () => true });
    await train(world, NAMES, 1);
    await world.pass(100);
    expect(phases(world)).not.toContain('slowest finished');
    Object.assign(context, { isBehind: () => false });
    sweeps.observe({ type: 'caught-up', job: context.job } as JobEvent);
    await eventuallyHolds(() => expect(run('slowest').driver.state.phase).toBe('finished'));
  });

  test('stops a job that is being started again at the next occasion', async () => {
    const { world, sweeps, run } = await startSweep();
    const judged = NAMES.map((name) => ({
      job: run(name).context.job,
      loss: 1,
      isOut: name.startsWith('slow'),
    }));
    world.store.sweeps.halve({ name: 'race', halvings: 0 }, judged);
    const { context } = run('slow');
    const { signal } = context;
    Object.assign(context, { signal: AbortSignal.abort() });
    sweeps.start();
    expect(phases(world)).toEqual(['toy waiting', 'slow waiting', 'fast waiting', 'slowest finished']);
    Object.assign(context, { signal });
    sweeps.observe({ type: 'caught-up', job: context.job } as JobEvent);
    await eventuallyHolds(() => expect(run('slow').driver.state.phase).toBe('finished'));
  });

  test('is refused if its jobs cannot be compared, and is the same if it is started again', async () => {
    const { world, sweeps } = await startSweep();
    const again = { name: 'race', rounds: 1, jobs: NAMES.map((job) => ({ job, variant: job })) };
    sweeps.create(again);
    expect(sweepViews(world)).toHaveLength(1);
    expect(() => sweeps.create({ ...again, rounds: 2 })).toThrow(withCode('SWEEP_INVALID'));
    const one = { job: 'toy', variant: '' };
    expect(() => sweeps.create({ name: 'b', rounds: 1, jobs: [one, one] })).toThrow(
      withCode('SWEEP_INVALID'),
    );
    const { manifest } = world.prepared();
    const data = { ...manifest.data, heldOut: { ...manifest.data.heldOut, digest: 'ab'.repeat(32) } };
    const other = { ...world.prepared(), content: 'other', manifest: { ...manifest, name: 'other', data } };
    await world.settle(world.coordinator.create(other));
    const jobs = [one, { job: 'other', variant: '' }];
    expect(() => sweeps.create({ name: 'c', rounds: 1, jobs })).toThrow(withCode('SWEEP_INVALID'));
  });
});
