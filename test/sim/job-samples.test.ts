import { expect, onTestFinished, test } from 'vitest';
import { BackgroundWork } from '../../coordinator/evaluation/background-work.ts';
import { Sampler } from '../../coordinator/evaluation/sampler.ts';
import { KEPT_RESULTS } from '../../coordinator/store/samples.ts';
import type { JobSamples } from '../../coordinator/store/store.ts';
import type { SampleRequest, Samples } from '../../lora/evaluate/process/messages.ts';
import { silentLogger } from '../../monitor/logs/log.ts';
import { ScriptedPeer } from '../unit/coordinator/scripted-peer.ts';
import { World } from '../unit/coordinator/world.ts';
import { eventuallyHolds } from '../utils/eventually.ts';

const SAMPLES: JobSamples = {
  prompts: [
    { text: 'Once', tokens: [1, 2], isHeldOut: false },
    { text: 'The', tokens: [3], isHeldOut: true },
  ],
  every: 2,
  maxTokens: 7,
};

/** Plays the given number of rounds of a job with samples. */
async function played(rounds: number, count = rounds): Promise<World> {
  const world = await new World({ rounds: { minPeers: 1, count }, baseLoss: 1000 }).start();
  world.store.samples.set(world.toy.job, SAMPLES);
  const done = (): boolean => world.run.driver.state.committed >= rounds;
  await new ScriptedPeer(1, world).work(() => 0.01, done);
  await world.until(done, 'the rounds');
  if (rounds === count) await world.until(() => world.run.driver.state.phase === 'finished', 'the end');
  return world;
}

function sampler(world: World, sample: (round: number, request: SampleRequest) => Promise<Samples>) {
  const source = new Sampler(
    { cacheDir: 'cache', compute: {} },
    {
      ...world.checkpointWork(),
      sample: (request) => sample(Number(request.adapter.split('/').at(-1)), request),
    },
  );
  const work = new BackgroundWork({ sources: [source], log: silentLogger });
  onTestFinished(() => work.stop());
  return work;
}

const continued =
  (asked: [number, boolean][]) =>
  async (round: number, { prompts, maxTokens, withBase }: SampleRequest): Promise<Samples> => {
    expect([prompts, maxTokens]).toEqual([[[1, 2], [3]], 7]);
    asked.push([round, withBase]);
    const texts = (who: string): string[] => prompts.map((_, i) => `${who} ${i}`);
    return { before: withBase ? texts('base') : null, after: texts(`round ${round},`) };
  };

test('only the newest due checkpoint of a running job is sampled', async () => {
  const world = await played(5, 9);
  const asked: [number, boolean][] = [];
  sampler(world, continued(asked)).start();
  await eventuallyHolds(() => expect(world.store.samples.rounds(world.toy.job)).toEqual([4]));
  expect(asked).toEqual([[4, true]]);
  expect(world.store.samples.newest(world.toy.job)).toMatchObject({
    round: 4,
    texts: [
      { prompt: 'Once', isHeldOut: false, before: 'base 0', after: 'round 4, 0' },
      { prompt: 'The', isHeldOut: true, before: 'base 1', after: 'round 4, 1' },
    ],
  });
});

test('a finished job is sampled at its last and its best checkpoint, and the base only once', async () => {
  const world = await played(3);
  const { job } = world.toy;
  const best = world.store.rounds.lowestLoss(job)!.round;
  const asked: [number, boolean][] = [];
  sampler(world, continued(asked)).start();
  await eventuallyHolds(() =>
    expect(world.store.samples.rounds(job)).toEqual([...new Set([best, 2, 3])].sort()),
  );
  expect(asked[0]).toEqual([3, true]);
  expect(asked.slice(1).every(([, withBase]) => !withBase)).toBe(true);
  expect(world.store.samples.result(job, 2)!.texts![1]!.before).toBe('base 1');
  const events = world.store.events.after(job, 0, 100).filter(({ type }) => type === 'sampled');
  expect(events).toMatchObject(asked.map(([round]) => ({ round })));
});

test('a failure has a reason and is not tried again', async () => {
  const world = await played(3);
  const { job } = world.toy;
  const work = sampler(world, async (round) => {
    if (round === 3) throw new Error('no memory');
    return continued([])(round, {
      prompts: [[1, 2], [3]],
      maxTokens: 7,
      withBase: true,
    } as unknown as SampleRequest);
  });
  work.start();
  await eventuallyHolds(() => expect(world.store.samples.rounds(job)).toContain(2));
  expect(world.store.samples.result(job, 3)).toMatchObject({ texts: null, reason: 'no memory' });
  const failed = world.store.events.after(job, 0, 100).filter(({ type }) => type === 'samples-failed');
  expect(failed).toMatchObject([{ round: 3, reason: 'no memory' }]);
});

test('the newest results and that of the best checkpoint are kept', async () => {
  const world = await played(1, 9);
  const { samples } = world.store;
  const { job } = world.toy;
  const last = KEPT_RESULTS + 5;
  for (let round = 1; round <= last; round++) {
    samples.add(job, { round, texts: [], reason: '', seconds: 1, at: 0 }, 2);
  }
  expect(samples.rounds(job)).toHaveLength(KEPT_RESULTS + 1);
  expect(samples.rounds(job).slice(0, 2)).toEqual([2, last - KEPT_RESULTS + 1]);
});

test('an error while the result is stored ends nothing, and the next occasion tries again', async () => {
  const world = await played(3);
  const { samples } = world.store;
  let failures = 0;
  const source = sampler(world, continued([]));
  const add = samples.add.bind(samples);
  samples.add = (...result) => {
    if (failures++ > 0) return add(...result);
    throw new Error('the disk is full');
  };
  source.start();
  await eventuallyHolds(() => expect(failures).toBe(1));
  expect(samples.rounds(world.toy.job)).toEqual([]);
  source.start();
  await eventuallyHolds(() => expect(samples.rounds(world.toy.job)).toContain(3));
});
