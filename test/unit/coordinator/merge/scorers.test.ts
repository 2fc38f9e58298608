import { expect, test } from 'vitest';
import { Scorers, scaleOf } from '../../../../coordinator/merge/scorers.ts';
import { UpdateScoring } from '../../../../coordinator/merge/scoring.ts';
import type { RpcRequest } from '../../../../protocol/requests/rpc.ts';
import { RANDOM_BATCHES } from '../../../../verify/scores/score-plan.ts';
import { ToySwarm } from '../toy-swarm.ts';

test('a node cannot widen the tolerance of the spot check with one huge answer', () => {
  const honest = [1, -2, 3, -1, 2];
  expect(scaleOf(honest, [1.5])).toBe(2);
  expect(scaleOf([...honest.slice(1), 1e30], [1.5])).toBe(2);
  // The coordinator's own figures are larger than the figures of all updates, so they set the scale.
  expect(scaleOf(honest, [-40, 3])).toBe(40);
  expect(scaleOf([], [0.5])).toBe(0.5);
});

/**
 * Closes round 1 of three nodes without scores, and scores it again with a limit on the coordinator's own device.
 * @param answers whether the scorer answers
 * @param device state of the coordinator's device while it scores again
 */
async function scoreAgain({
  answers,
  device = 'works',
}: {
  answers: boolean;
  device?: 'works' | 'lost' | 'hangs';
}) {
  let gradients = 0;
  let isLost = true;
  const swarm = new ToySwarm(['honest', 'honest', 'honest'], {
    gradient: (adapter) => {
      if (isLost) throw new Error('the device is lost');
      gradients++;
      return adapter.map(({ length }) => new Float32Array(length));
    },
  });
  const head = await swarm.start();
  const { world } = swarm;
  const parent = world.run.record.checkpoint;
  await swarm.play(head, 1);
  isLost = device === 'lost';
  const scorers = new Scorers({ isReady: () => true });
  scorers.note('scorer', true);
  const asked: RpcRequest<'measure'>[] = [];
  const request = async (_peer: string, _method: string, body: RpcRequest<'measure'>) => {
    if (!answers) throw new Error('the scorer is gone');
    asked.push(body);
    return { figures: body.update === null && body.what === 'products' ? [] : body.batches.map(() => 0) };
  };
  const { context } = world.run;
  const network = { ...context.deps.network, request } as typeof context.deps.network;
  const validator =
    device === 'hangs'
      ? { ...context.deps.validator, gradient: () => new Promise<never>(() => {}) }
      : context.deps.validator;
  const scoring = new UpdateScoring(
    { maxOwnParameters: 1 },
    {
      context: { ...context, deps: { ...context.deps, network, validator } },
      record: (write) => write(),
      scorers,
      onFallback: () => {},
    },
  );
  const startedAt = world.clock.monotonic();
  const scores = await world.settle(scoring.run(1, parent, world.store.updates.selected(world.toy.job, 1)));
  const ms = world.clock.monotonic() - startedAt;
  return { scores, asked, gradients, ms, next: scorers.choose(2, 'scores') };
}

test('a scorer computes the figures of an adapter that is too large for the coordinator', async () => {
  const { scores, asked, gradients } = await scoreAgain({ answers: true });
  expect(scores.map(({ figures }) => figures)).toEqual(Array(3).fill(expect.objectContaining({ effect: 0 })));
  expect(asked.length).toBeGreaterThanOrEqual(RANDOM_BATCHES + 3);
  // The coordinator computes only the gradients that check the figures of one update.
  expect(gradients).toBe(2);
});

test('if the scorer of an adapter that is too large fails, nothing is scored', async () => {
  const { scores, gradients, next } = await scoreAgain({ answers: false });
  expect(scores).toMatchObject(Array(3).fill({ figures: null, share: null }));
  expect(gradients).toBe(0);
  expect(next).toBeNull();
});

test('a scorer is asked again in the next round if the device of the coordinator fails in the spot check', async () => {
  const { scores, asked, next } = await scoreAgain({ answers: true, device: 'lost' });
  expect(asked.length).toBeGreaterThan(0);
  expect(scores).toMatchObject(Array(3).fill({ figures: null, share: null }));
  expect(next).toBe('scorer');
});

test('if the device of the coordinator hangs in the spot check, the round goes on without scores after 2 minutes', async () => {
  const { scores, ms, next } = await scoreAgain({ answers: true, device: 'hangs' });
  expect(scores).toMatchObject(Array(3).fill({ figures: null, share: null }));
  expect(ms).toBeLessThanOrEqual(2 * 60_000);
  expect(next).toBe('scorer');
});

test('a failure counts for the work that failed, and wrong figures count for all work', () => {
  const absent = new Set<string>();
  const scorers = new Scorers({ isReady: (peer) => !absent.has(peer) });
  for (const peer of ['first', 'second']) scorers.note(peer, true);
  scorers.noteSilence('first', 3, 'tasks');
  expect([scorers.choose(3, 'scores'), scorers.choose(3, 'tasks')]).toEqual(['first', 'second']);
  expect([scorers.choose(10, 'tasks'), scorers.choose(11, 'tasks')]).toEqual(['second', 'first']);
  scorers.noteWrong('first');
  expect([scorers.choose(99, 'scores'), scorers.choose(99, 'tasks')]).toEqual(['second', 'second']);
  absent.add('second');
  expect(scorers.choose(99, 'tasks')).toBeNull();
});
