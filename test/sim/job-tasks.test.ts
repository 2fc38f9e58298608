import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { checkpointTasks } from '../../coordinator/api/job-views.ts';
import { bestCheckpoint } from '../../coordinator/best-checkpoint.ts';
import { BackgroundWork } from '../../coordinator/evaluation/background-work.ts';
import { TaskEvaluator } from '../../coordinator/evaluation/task-evaluator.ts';
import { CheckpointTags } from '../../coordinator/jobs/checkpoint-tags.ts';
import { JobPublisher } from '../../coordinator/jobs/job-publisher.ts';
import type { JobTasks } from '../../coordinator/store/store.ts';
import { silentLogger } from '../../monitor/logs/log.ts';
import { ScriptedPeer } from '../unit/coordinator/scripted-peer.ts';
import { COORDINATOR, World } from '../unit/coordinator/world.ts';
import { eventually, eventuallyHolds } from '../utils/eventually.ts';
import { temporaryFolder } from '../utils/folder.ts';
import { openTestRegistry, smallPeftFolder } from '../utils/registry/registry.ts';

const FIGURE = 'words.acc,none';
const TASKS: JobTasks = {
  files: ['/words.yaml'],
  every: 2,
  metric: { figure: FIGURE, higherIsBetter: true },
  limit: 5,
};

/** Plays a whole job of some rounds. */
async function played(count: number, tasks: JobTasks | null = TASKS): Promise<World> {
  const world = await new World({ rounds: { minPeers: 1, count }, baseLoss: 1000 }).start();
  if (tasks !== null) world.store.tasks.set(world.toy.job, tasks);
  const finished = (): boolean => world.run.driver.state.phase === 'finished';
  await new ScriptedPeer(1, world).work(() => 0.01, finished);
  await world.until(finished, 'the end');
  return world;
}

/** Starts an evaluator. `valueAt` returns the figure of a round, or an error with which the evaluation fails. */
function evaluator(world: World, valueAt: (round: number) => number | Error | Promise<number>) {
  const asked: number[] = [];
  const source = new TaskEvaluator(
    { cacheDir: 'cache', compute: {} },
    {
      ...world.checkpointWork(),
      evaluate: async ({ adapter, tasks, limit }) => {
        expect([tasks, limit]).toEqual([TASKS.files, TASKS.limit]);
        const round = Number(adapter.split('/').at(-1));
        asked.push(round);
        const value = await valueAt(round);
        if (value instanceof Error) throw value;
        return { [FIGURE]: value, 'words.acc_stderr,none': 0.1 };
      },
    },
  );
  const started = new BackgroundWork({ sources: [source], log: silentLogger });
  world.coordinator.onEvent((event) => started.observe(event));
  onTestFinished(() => started.stop());
  const isDone = (): boolean => asked.length > 0 && world.store.tasks.unevaluated(world.toy.job).length === 0;
  return { started, asked, isDone };
}

const rounds = (world: World): number[] => world.store.tasks.results(world.toy.job).map(({ round }) => round);
const eventsOf = (world: World, ...types: string[]) =>
  world.store.events.after(world.toy.job, 0, 100).filter(({ type }) => types.includes(type));

describe('the checkpoints of a job with tasks', () => {
  test('are evaluated at the start, every second time and at the end, and the best is found', async () => {
    const world = await played(5);
    const { started, asked } = evaluator(world, (round) => [0.1, 0, 0.7, 0, 0.3, 0.7][round]!);
    started.start();
    await eventuallyHolds(() => expect(rounds(world)).toEqual([0, 2, 4, 5]));
    expect(asked).toEqual([0, 2, 4, 5]);
    const events = eventsOf(world, 'tasks-evaluated');
    expect(events.map((event) => 'isBest' in event && event.isBest)).toEqual([true, true, false, true]);
    expect(events[1]).toMatchObject({ round: 2, metric: FIGURE, value: 0.7, figures: { [FIGURE]: 0.7 } });
    // Rounds 2 and 5 have the same value, and the held-out loss of round 5 is lower.
    expect(bestCheckpoint(world.toy.job, world.store)?.round).toBe(5);
  });

  test('are evaluated more often after a change, which a restart does not undo', async () => {
    const world = await new World({ rounds: { minPeers: 1, count: 4 }, baseLoss: 1000 }).start();
    world.store.tasks.set(world.toy.job, { ...TASKS, every: 3 });
    const newest = (): number => world.run.record.checkpoint.checkpoint.round;
    const peer = new ScriptedPeer(1, world);
    await peer.work(
      () => 0.01,
      () => newest() >= 2,
    );
    await world.until(() => newest() >= 2, 'the second checkpoint');
    const { started } = evaluator(world, (round) => round);
    started.start();
    await eventuallyHolds(() => expect(rounds(world)).toEqual([0]));
    // The checkpoints of rounds 1 and 2 still have their weights, so they are evaluated too.
    world.run.change({ tasksEvery: 1 }, { reason: '' });
    await eventuallyHolds(() => expect(rounds(world)).toEqual([0, 1, 2]));
    await started.stop();
    expect(() => world.kill()).toThrow();
    await world.start();
    expect(world.store.tasks.of(world.toy.job)).toEqual({ ...TASKS, every: 1 });
  });

  test('are the best by the metric for the list of checkpoints and for a roll-back', async () => {
    const world = await new World({ rounds: { minPeers: 1, count: 9 }, baseLoss: 1000 }).start();
    const { job } = world.toy;
    world.store.tasks.set(job, { ...TASKS, every: 1 });
    const hasThree = (): boolean => world.run.driver.state.committed >= 3;
    await new ScriptedPeer(1, world).work(() => 0.01, hasThree);
    await world.until(hasThree, 'the third checkpoint');
    const { started, isDone } = evaluator(world, (round) => (round === 1 ? 0.9 : 0.1));
    started.start();
    await eventually(isDone);
    // Round 3 has the lowest held-out loss, but round 1 has the best value of the metric.
    expect(world.store.rounds.lowestLoss(job)?.round).toBe(3);
    expect(checkpointTasks(job, world.store, { from: 0, to: 9 }).best).toBe(1);
    expect(world.run.rollBack('best')).toBe(1);
  });

  test('that the operator rolled back are no longer the best', async () => {
    const world = await new World({ rounds: { minPeers: 1, count: 9 }, baseLoss: 1000 }).start();
    const { job } = world.toy;
    world.store.tasks.set(job, { ...TASKS, every: 1 });
    const newest = (): number => world.run.record.checkpoint.checkpoint.round;
    await new ScriptedPeer(1, world).work(
      () => 0.01,
      () => newest() >= 3,
    );
    await world.until(() => newest() >= 3, 'the third round');
    world.run.rollBack(1);
    await world.until(() => world.store.rounds.rollBacks(job, 1).length > 0, 'the roll-back');
    const { round } = world.store.rounds.rollBacks(job, 1)[0]!;
    const { started, isDone } = evaluator(world, (at) => (at < round ? at : 0.5));
    started.start();
    await eventually(isDone);
    expect(bestCheckpoint(job, world.store)?.round ?? round).toBeGreaterThanOrEqual(round);
    expect(rounds(world)).toContain(3);
  });

  test('are evaluated while the rounds go on', async () => {
    const world = await new World({ rounds: { minPeers: 1, count: 4 } }).start();
    world.store.tasks.set(world.toy.job, { ...TASKS, every: 1 });
    const first = Promise.withResolvers<number>();
    const { started } = evaluator(world, (round) => (round === 0 ? first.promise : round));
    started.start();
    const finished = (): boolean => world.run.driver.state.phase === 'finished';
    await new ScriptedPeer(1, world).work(() => 0.01, finished);
    await world.until(finished, 'the end');
    expect(rounds(world)).toEqual([]);
    first.resolve(0);
    await eventuallyHolds(() => expect(rounds(world)).toEqual([0, 1, 2, 3, 4]));
  });

  test('have a reason if they could not be evaluated, and are not tried again', async () => {
    const world = await played(2);
    const { started, asked } = evaluator(world, (round) => (round === 0 ? new Error('no such file') : 1));
    started.start();
    await eventuallyHolds(() => expect(rounds(world)).toEqual([0, 2]));
    expect(eventsOf(world, 'tasks-failed')).toMatchObject([{ round: 0, reason: 'no such file' }]);
    started.start();
    await started.stop();
    expect(asked).toEqual([0, 2]);
  });

  test('are evaluated after a restart if the evaluation was interrupted', async () => {
    const world = await played(2);
    const never = Promise.withResolvers<number>();
    const before = evaluator(world, () => never.promise);
    before.started.start();
    await eventuallyHolds(() => expect(before.asked).toEqual([0]));
    const stopped = before.started.stop();
    never.resolve(1);
    await stopped;
    expect(rounds(world)).toEqual([]);
    evaluator(world, () => 1).started.start();
    await eventuallyHolds(() => expect(rounds(world)).toEqual([0, 2]));
  });
});

describe('the registry', () => {
  /**
   * Returns a registry, and a function that makes a publisher for it. The checkpoint of each round has a separate PEFT
   * folder.
   */
  async function publisher(world: World) {
    const folders = await Promise.all(
      [0, 1, 2, 3, 4].map((round) => smallPeftFolder(round, world.toy.manifest.base.digest)),
    );
    const { registry, home } = await openTestRegistry();
    const deps = {
      coordinator: world.coordinator,
      store: world.store,
      folders: { path: (_job: string, round: number) => folders[round]! },
      log: silentLogger,
      clock: world.clock.process(() => true),
      signer: COORDINATOR,
      baseFolder: async () => 'home/bases/toy',
    };
    return { registry, deps, published: () => new JobPublisher({ registry: home }, deps) };
  }
  const result = (round: number, score: number) => ({
    round,
    score,
    figures: { [FIGURE]: score },
    reason: '',
    seconds: 1,
    at: 0,
  });

  test('gets the best checkpoint by the tasks as `best`, and the last one as `latest`', async () => {
    const world = await played(4, { ...TASKS, limit: null });
    const { job } = world.toy;
    for (const [round, score] of [
      [0, 0.1],
      [2, 0.9],
      [4, 0.3],
    ] as const) {
      world.store.tasks.add(job, result(round, score));
    }
    const { registry, published } = await publisher(world);
    const run = async (): Promise<void> => {
      const one = published();
      one.start();
      await one.stop();
    };
    await run();
    const roundOf = (reference: string) => registry.resolve(reference).manifest.job?.round;
    expect([roundOf('toy:best'), roundOf('toy:latest')]).toEqual([2, 4]);
    const best = registry.resolve('toy:best');
    expect(registry.measurements(best)).toMatchObject([{ metrics: { [FIGURE]: 0.9 } }]);

    // The operator moves the tag, and a restart leaves it there.
    await registry.tag('toy:latest', 'best', 'I like it');
    await run();
    expect(roundOf('toy:best')).toBe(4);
    expect(registry.versions('toy')).toHaveLength(2);
  });

  test('keeps the end of the job as `latest` when an older checkpoint becomes the best one later', async () => {
    const world = await played(4, { ...TASKS, limit: null });
    const { registry, published } = await publisher(world);
    const tagsAfter = async (round: number, score: number) => {
      world.store.tasks.add(world.toy.job, result(round, score));
      const one = published();
      one.start();
      await one.stop();
      return registry.versions('toy').map(({ manifest, tags }) => [manifest.job?.round, tags]);
    };
    expect(await tagsAfter(0, 0.1)).toEqual([[4, ['latest']]]);
    expect(await tagsAfter(2, 0.5)).toEqual([
      [4, ['latest']],
      [2, ['best']],
    ]);
    expect(await tagsAfter(4, 0.9)).toEqual([
      [4, ['best', 'latest']],
      [2, []],
    ]);
  });

  test('gets nothing from a job that was stopped before its first checkpoint', async () => {
    const world = await new World({ rounds: { minPeers: 1 } }).start();
    world.run.operate({ type: 'stop', reason: '' });
    const { registry, published } = await publisher(world);
    const one = published();
    one.start();
    await one.stop();
    expect(registry.versions('toy')).toEqual([]);
  });

  test('gets the checkpoint with the lowest held-out loss as `best` without tasks', async () => {
    const world = await played(3, null);
    const best = world.store.rounds.lowestLoss(world.toy.job)!.round;
    const { registry, published } = await publisher(world);
    const one = published();
    one.start();
    await one.stop();
    expect(registry.resolve('toy:best').manifest.job?.round).toBe(best);
    expect(registry.resolve('toy:latest').manifest.job?.round).toBe(3);
    expect(registry.baseFolder(world.toy.manifest.base.digest)).toBe('home/bases/toy');
  });

  test('gets a checkpoint that the operator tags, and the tag moves', async () => {
    const world = await played(2, null);
    const { registry, deps } = await publisher(world);
    const { job } = world.toy;
    const checkpoint = (round: number) => world.store.rounds.checkpoint(job, round)!;
    const none = join(await temporaryFolder(), 'none');
    expect(await new CheckpointTags({ registry: none }, { ...deps }).versions(world.run)).toEqual([]);
    expect(existsSync(none)).toBe(false);
    const tags = new CheckpointTags({ registry: registry.home }, deps);
    expect(await tags.tag(world.run, checkpoint(2), 'stable', 'good')).toEqual([
      { checkpoint: checkpoint(2).digest, label: 'toy:v1', tags: ['latest', 'stable'] },
    ]);
    await tags.tag(world.run, checkpoint(1), 'old', '');
    expect(await tags.tag(world.run, checkpoint(1), 'stable', 'better')).toMatchObject([
      { label: 'toy:v1', tags: ['latest'] },
      { label: 'toy:v2', tags: ['old', 'stable'] },
    ]);
    expect(registry.tagLog('toy', 'stable').map(({ reason }) => reason)).toEqual(['good', 'better']);
    await expect(tags.tag(world.run, checkpoint(1), 'no tag!', '')).rejects.toMatchObject({
      code: 'TAG_NAME',
    });
    const unpublished = new CheckpointTags({ registry: null }, deps);
    expect(await unpublished.versions(world.run)).toBeNull();
    await expect(unpublished.tag(world.run, checkpoint(1), 'x', '')).rejects.toMatchObject({
      code: 'NO_REGISTRY',
    });
  });

  test('shows all values of the settings that were changed while the job ran', async () => {
    const world = await new World({ rounds: { minPeers: 1, count: 3 }, baseLoss: 1000 }).start();
    const finished = (): boolean => world.run.driver.state.phase === 'finished';
    await new ScriptedPeer(1, world).work(() => 0.01, finished);
    await world.until(() => world.run.driver.state.phase === 'training', 'round 1');
    world.run.change({ learningRate: 1e-4, count: 2 }, { reason: 'the loss stalls' });
    await world.until(finished, 'the end');
    const { registry, published } = await publisher(world);
    const one = published();
    one.start();
    await one.stop();
    const { settings } = registry.resolve('toy:latest').manifest;
    const { learningRate } = world.toy.manifest.training;
    expect(settings).toMatchObject({
      'training.learningRate': `${learningRate}, from round 2: 0.0001`,
      'rounds.count': '3, from round 2: 2',
      'rounds.minPeers': 1,
    });
  });
});
