import { expect, test } from 'vitest';
import { AUDIT_SHARE } from '../../verify/scores/extra-work.ts';
import { virtualEnvironment } from '../utils/virtual/environment.ts';
import { FakeTrainer } from '../utils/virtual/fake-trainer.ts';
import { toyJob } from '../utils/virtual/toy-job.ts';
import { VirtualNode } from '../utils/virtual/virtual-node.ts';
import { COORDINATOR, VirtualCoordinator } from './virtual-coordinator.ts';

const NODES = 5;
/** Numbers of liars and rounds. Audits are drawn at random. In so many rounds, they almost certainly find a liar. */
const LIARS = 2;
const ROUNDS = 100;
/** Steps of a round. A node with low shares gets a third of them, which is enough to judge the balance. */
const LOCAL_STEPS = 18;
const MS_PER_STEP = 50;

/** Trains on the first batch of the interval again and again, and claims to have trained on the whole interval. */
class Repeater extends FakeTrainer {
  override train(...[task, run]: Parameters<FakeTrainer['train']>): ReturnType<FakeTrainer['train']> {
    const batch = task.rows.slice(0, task.rows.length / task.steps);
    return super.train({ ...task, rows: task.rows.map((_, i) => batch[i % batch.length]!) }, run);
  }
}

for (const seed of [1, 2]) {
  test(`seed ${seed}: nodes that train on one batch of their rows are found, at 2 % of the work`, async () => {
    const environment = virtualEnvironment(seed);
    const { clock, random } = environment;
    const rounds = {
      count: ROUNDS,
      localSteps: LOCAL_STEPS,
      minPeers: NODES - LIARS,
      quorum: 1,
      maxSeconds: 30,
      preset: 'dense',
      errorFeedbackDecay: 0.5,
    } as const;
    const toy = toyJob(COORDINATOR, { rows: 512, rounds });
    const coordinator = new VirtualCoordinator(
      { toy, retention: { checkpoints: 1, rounds: 0 } },
      environment,
    );
    const nodes = Array.from({ length: NODES }, (_, i) => {
      const training = { layout: toy.layout, msPerStep: MS_PER_STEP, deaths: 0, blunders: 0 };
      const lies = i >= NODES - LIARS;
      return new VirtualNode(
        {
          number: i + 1,
          coordinator: COORDINATOR.peerId,
          layout: toy.layout,
          msPerStep: MS_PER_STEP,
          ...(lies && { trainerFor: (own) => new Repeater(training, { clock: own, random }) }),
          options: { job: toy.job },
        },
        environment,
      );
    });
    coordinator.start();
    for (const node of nodes) node.start();
    expect(await clock.run(() => coordinator.finished, 4 * 3600_000)).toBe(true);

    const { store } = coordinator;
    const { audits } = store;
    const liars = nodes.slice(-LIARS).map(({ peer }) => peer);
    const results = audits.results(toy.job);
    const failed = results.filter(({ state }) => state === 'failed');
    expect(failed.length).toBeGreaterThan(0);
    expect(failed.filter(({ peer }) => !liars.includes(peer))).toEqual([]);
    expect(results.length).toBeGreaterThan(4);
    expect(audits.inState(toy.job, 'dropped').length).toBeLessThan(3);
    const { trained } = audits.newestDraw(toy.job)!;
    expect(audits.spent(toy.job)).toBeLessThanOrEqual(AUDIT_SHARE * trained);
    const struck = store.events.after(toy.job, 0, 100_000).filter((event) => event.type === 'struck');
    expect(struck.some((event) => event.type === 'struck' && event.kind === 'audit')).toBe(true);
    for (const event of struck) if (event.type === 'struck') expect(liars).toContain(event.peer);
    // The end of the job removes all updates that waited for an audit.
    expect(audits.inState(toy.job, 'chosen')).toEqual([]);
    expect(audits.inState(toy.job, 'held')).toEqual([]);
  });
}
