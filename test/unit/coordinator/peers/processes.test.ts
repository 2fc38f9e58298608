import { expect, test } from 'vitest';
import { isSwarmError } from '../../../../common/errors.ts';
import { ScriptedPeer } from '../scripted-peer.ts';
import { World } from '../world.ts';

const [FIRST, SECOND] = ['1'.repeat(16), '2'.repeat(16)] as const;

async function setUp() {
  const world = await new World({ rounds: { minPeers: 2 } }).start();
  const peer = new ScriptedPeer(1, world);
  const { job } = peer;
  /** Returns the code of the refusal; null if the process joins. */
  const join = async (run: string): Promise<unknown> => {
    const about = { job, invite: null, name: 'otter', agent: 'a', engine: 'e', tokensPerSecond: 0 };
    const request = peer.ask('join', { ...about, run, sentAt: world.clock.now() });
    return request.then(
      () => null,
      (error: unknown) => (isSwarmError(error, 'RPC_REFUSED') ? error.values.code : error),
    );
  };
  const events = () =>
    world.store.events.after(job, 0, 1_000).filter(({ type }) => type === 'duplicate-identity');
  const isPresent = (): boolean => world.run.members.liveness.get(peer.id) !== null;
  return { world, peer, job, join, events, isPresent };
}

test('the second process with one key does not join, is refused for good, and the first one gets a notice', async () => {
  const { world, peer, job, join, events, isPresent } = await setUp();
  expect(await join(FIRST)).toBe(null);
  const answers: unknown[] = [];
  for (let second = 0; second < 10; second += 2) {
    answers.push(await join(SECOND));
    await peer.heartbeat('awaiting', { run: FIRST });
    await world.pass(2_000);
  }
  expect(answers[0]).toBe('IDENTITY_IN_USE');
  expect(answers.at(-1)).toBe('DUPLICATE_IDENTITY');
  expect(events()).toMatchObject([{ peer: peer.id, name: 'otter' }]);
  const { duplicateSince } = await peer.ask('head', { job, run: FIRST });
  expect(duplicateSince).toBe((events()[0] as { since: number }).since);
  expect(await peer.ask('head', { job, run: FIRST })).not.toHaveProperty('duplicateSince');
  // The refused process leaves. The first process continues.
  await peer.ask('leave', { job, reason: 'stopped', run: SECOND });
  expect(isPresent()).toBe(true);
  await peer.ask('leave', { job, reason: 'stopped', run: FIRST });
  expect(isPresent()).toBe(false);
});

test('a node that was killed joins again after 5 s, and one that has left at once', async () => {
  const { world, peer, job, join, events } = await setUp();
  expect(await join(FIRST)).toBe(null);
  expect(await join(SECOND)).toBe('IDENTITY_IN_USE');
  await world.pass(5_000);
  expect(await join(SECOND)).toBe(null);
  await peer.ask('leave', { job, reason: 'stopped', run: SECOND });
  expect(await join(FIRST)).toBe(null);
  expect(events()).toEqual([]);
});
