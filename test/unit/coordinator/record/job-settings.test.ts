import { describe, expect, test } from 'vitest';
import { readRepetition } from '../../../../coordinator/audits/repetition.ts';
import { parseChange } from '../../../../coordinator/job-changes.ts';
import type { StoredAudit } from '../../../../coordinator/store/store.ts';
import { verifyMessage } from '../../../../protocol/signing.ts';
import { withCode } from '../../../utils/source/codes.ts';
import { ScriptedPeer, training } from '../scripted-peer.ts';
import { witnessed } from '../settings-witness.ts';
import { World } from '../world.ts';

const REASON = { reason: 'the loss stalls' };

describe('a change of settings', () => {
  test('holds from the next round, and head and checkpoint name its record', async () => {
    const world = new World({ rounds: { minPeers: 1, count: 3 } });
    const { peers, head } = await training(world, 1);
    const [peer] = peers as [ScriptedPeer];
    world.run.change({ learningRate: 1e-4 }, REASON);
    expect(head.settings).toBeUndefined();
    expect((await peer.head()).settings).toBeUndefined();
    await peer.submit(peer.seal(peer.update(head)));
    await world.until(() => world.run.driver.state.round === 2, 'round 2');
    const next = await peer.head();
    expect(next.settings?.values).toMatchObject({ learningRate: 1e-4, count: 3, minPeers: 1 });
    await peer.submit(peer.seal(peer.update(next)));
    await world.until(() => world.run.driver.state.round === 3, 'round 3');

    const { changes, checkpoints } = witnessed(world);
    expect(changes).toMatchObject([{ record: { sequence: 1, previous: null, fromRound: 2, ...REASON } }]);
    expect(next.settings?.record).toBe(changes[0]!.digest);
    expect(checkpoints.map(({ settings }) => settings)).toEqual([null, null, changes[0]!.digest]);
    const { settings } = await peer.ask('settings', { job: world.toy.job, record: changes[0]!.digest });
    expect(verifyMessage('settings', settings!).message.values.learningRate).toBe(1e-4);

    // An audit repeats each round with the learning rate that the round had.
    const scheduleOf = async (round: number) => {
      const audit = { round, peer: peer.id } as StoredAudit;
      return (await world.settle(readRepetition(audit, world.run.context))).position.schedule;
    };
    expect(await scheduleOf(1)).toBeUndefined();
    expect(await scheduleOf(2)).toEqual({ learningRate: 1e-4, totalSteps: 3 * 4 });
  });

  test('of the number of rounds makes the job longer or shorter', async () => {
    for (const count of [1, 3]) {
      const world = new World({ rounds: { minPeers: 1, count: 2 } });
      const { peers } = await training(world, 1);
      world.run.change({ count }, REASON);
      const finished = (): boolean => world.run.driver.state.phase === 'finished';
      await peers[0]!.work(() => 0.01, finished);
      await world.until(finished, 'the end');
      expect(witnessed(world).checkpoints).toHaveLength(count + 1);
    }
  });

  test('of minPeers opens a round for which too few nodes were present', async () => {
    const world = await new World({ rounds: { minPeers: 2 } }).start();
    const peer = new ScriptedPeer(1, world);
    await peer.join();
    await world.pass(5_000);
    expect(await peer.head()).toMatchObject({ phase: 'waiting', reason: expect.stringContaining('2') });
    world.run.change({ minPeers: 1 }, REASON);
    await peer.heartbeat('awaiting');
    await world.until(() => world.run.driver.state.phase === 'training', 'the first round');
    expect((await peer.head()).settings?.values.minPeers).toBe(1);
  });

  test('of the priority holds at once, and is not signed', async () => {
    const world = await new World().start();
    world.run.change({ priority: 7 }, REASON);
    expect(world.run.context.place.priority).toBe(7);
    expect(world.store.jobs.settings(world.toy.job)).toEqual([]);
    const events = world.store.events.after(world.toy.job, 0, 100);
    expect(events.at(-1)).toMatchObject({ type: 'priority-changed', before: 0, after: 7, ...REASON });
  });

  test('of how often the tasks are evaluated holds at once, and is not signed', async () => {
    const world = await new World().start();
    const { job } = world.toy;
    expect(() => world.run.change({ tasksEvery: 2 }, REASON)).toThrow(withCode('SETTING_INVALID'));
    const tasks = { files: ['/words.yaml'], every: 5, metric: null, limit: 9 };
    world.store.tasks.set(job, tasks);
    world.run.change({ tasksEvery: 2 }, REASON);
    world.run.change({ tasksEvery: 2 }, REASON);
    expect(world.store.tasks.of(job)).toEqual({ ...tasks, every: 2 });
    expect(world.store.jobs.settings(job)).toEqual([]);
    const events = world.store.events.after(job, 0, 100).filter(({ type }) => type === 'tasks-changed');
    expect(events).toMatchObject([{ key: 'tasks.every', before: 5, after: 2, ...REASON }]);
  });

  test('to the same values changes nothing', async () => {
    const world = await new World({ rounds: { count: 8 } }).start();
    world.run.change({ count: 8, priority: 0 }, REASON);
    expect(witnessed(world).changes).toEqual([]);
  });

  test('is refused if the job would have too few rounds, or is over', async () => {
    const world = new World({ rounds: { minPeers: 1, count: 3 } });
    const { peers, head } = await training(world, 1);
    await peers[0]!.submit(peers[0]!.seal(peers[0]!.update(head)));
    await world.until(() => world.run.driver.state.round === 2, 'round 2');
    expect(() => world.run.change({ count: 1 }, REASON)).toThrow(withCode('SETTING_INVALID'));
    world.run.operate({ type: 'stop', reason: '' });
    expect(() => world.run.change({ count: 9 }, REASON)).toThrow(withCode('JOB_OVER', { phase: 'stopped' }));
  });

  test('ends the hold of a restarted job only if it is accepted', async () => {
    const world = await new World({ rounds: { minPeers: 1, count: 3 } }).start();
    const { driver } = world.run;
    driver.hold();
    expect(() => world.run.change({ tasksEvery: 2 }, REASON)).toThrow(withCode('SETTING_INVALID'));
    expect(() => world.run.change({ count: 0 }, REASON)).toThrow(withCode('SETTING_INVALID'));
    expect(driver.isHeld).toBe(true);
    world.run.change({ count: 2 }, REASON);
    expect(driver.isHeld).toBe(false);
  });

  test('names the setting that is unknown, wrong or cannot change', () => {
    expect(parseChange('toy', { 'rounds.count': 3, priority: -1 })).toEqual({ count: 3, priority: -1 });
    expect(parseChange('toy', { 'tasks.every': 2 })).toEqual({ tasksEvery: 2 });
    for (const [key, value, code] of [
      ['rounds.kount', 1, 'JOB_SPEC'],
      ['colour', 'red', 'JOB_SPEC'],
      ['__proto__', 'red', 'JOB_SPEC'],
      ['rounds.count', 0, 'JOB_SPEC'],
      ['training.learningRate', 'fast', 'JOB_SPEC'],
      ['priority', 1e6, 'SETTING_INVALID'],
      ['tasks.every', 0, 'JOB_SPEC'],
      ['tasks.evry', 2, 'JOB_SPEC'],
      ['tasks', 5, 'JOB_SPEC'],
      ['lora.rank', 8, 'SETTING_FIXED'],
      ['rounds.localSteps', 8, 'SETTING_FIXED'],
    ] as const) {
      const change = () => parseChange('toy', { [key]: value });
      expect(change, key).toThrow(withCode(code));
      expect(change, key).toThrow(expect.objectContaining({ next: expect.any(String) }));
    }
  });

  test.each([
    ['priorty', 'priority=VALUE'],
    ['rounds.cuont', 'rounds.count=VALUE'],
  ])('suggests a setting that can change for the misspelt %s', (key, advice) => {
    const change = () => parseChange('toy', { [key]: 3 });
    expect(change).toThrow(expect.objectContaining({ next: expect.stringContaining(advice) }));
  });

  test.each([
    ['lora.rank', 8, 'job clone toy --set lora.rank=VALUE'],
    ['tasks.limit', 9, 'job clone toy --set tasks.limit=VALUE'],
    ['tasks.files', ['a.yaml'], 'job create FILE'],
    ['tasks.metric', 'acc', 'job create FILE'],
    ['samples.every', 3, 'job create FILE'],
  ])('says why %s cannot change, and which command makes a job with another value', (key, value, command) => {
    const refused = (): unknown => {
      try {
        return parseChange('toy', { [key]: value });
      } catch (error) {
        return error;
      }
    };
    expect(refused()).toMatchObject({
      code: 'SETTING_FIXED',
      message: expect.not.stringContaining('undefined'),
      next: expect.stringContaining(`lora-swarm ${command}`),
    });
  });
});
