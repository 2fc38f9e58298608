import { expect, it } from 'vitest';
import { failpoints } from '../../coordinator/failpoints.ts';
import { chainFaults, TestSwarm } from './swarm.ts';

it('a coordinator that is killed at every durable step resumes: no update is lost or counted twice', async () => {
  const swarm = await TestSwarm.create();
  const first = await (await swarm.coordinator()).ready();
  await swarm.createJob({ rounds: { count: failpoints.length + 2, localSteps: 60 } });
  const nodes = await Promise.all(['otter', 'heron'].map((name) => swarm.node(name).ready()));
  await swarm.until('the first checkpoint', ({ type }) => type === 'checkpoint');
  await first.kill();

  for (const failpoint of failpoints) {
    const armed = await swarm.coordinator({ SWARM_FAILPOINT: failpoint });
    expect(await armed.exited, failpoint).toMatchObject({ signal: 'SIGKILL' });
  }

  await (await swarm.coordinator()).ready();
  const events = await swarm.untilFinished();
  const checkpoints = await swarm.checkpoints();
  expect(chainFaults(checkpoints)).toEqual([]);

  const committed = events
    .filter(({ type }) => type === 'checkpoint')
    .map((event) => 'round' in event && event.round);
  expect(new Set(committed).size, 'each round is committed once').toBe(committed.length);
  expect(checkpoints.slice(1).map(({ round }) => round)).toEqual(committed);

  // An accepted update is in a checkpoint, unless its round was a null round or the gate left it out.
  const merged = new Set(
    checkpoints.flatMap(({ checkpoint }) =>
      checkpoint.contributors.map(({ peer, round }) => `${peer} ${round}`),
    ),
  );
  const outcomes = new Map<string, string>();
  for (const event of events)
    if (event.type === 'update' || event.type === 'update-undone') {
      outcomes.set(`${event.peer} ${event.round}`, event.code);
    }
  const lost = [...outcomes].filter(
    ([update, code]) => (code === 'accepted' || code === 'late') && !merged.has(update),
  );
  expect(lost).toEqual([]);

  for (const node of nodes) expect(node.process.exitCode, 'the nodes never stopped').toBeNull();
}, 300_000);
