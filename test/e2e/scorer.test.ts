import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import type { CreatedInvite } from '../../protocol/api/coordinator.ts';
import { eventuallyHolds } from '../utils/eventually.ts';
import { Daemon, swarmFile, TestSwarm } from './swarm.ts';

const MINIMAL_PAIRS = fileURLToPath(new URL('../../examples/tasks/minimal-pairs.yaml', import.meta.url));

it('a node of the operator scores a round and evaluates a checkpoint, and a witness measures the scores again', async () => {
  const swarm = await TestSwarm.create();
  await (await swarm.coordinator()).ready();
  const tasks = { files: MINIMAL_PAIRS, every: 1, metric: 'minimal_pairs.acc', limit: 10 };
  await swarm.createJob({ rounds: { minPeers: 2, count: 400, localSteps: 80 }, tasks });
  const create = ['invite', 'create', 'tale', '--role', 'operator', '--home', swarm.home, '--json'];
  const { stdout } = await promisify(execFile)(process.execPath, [swarmFile, ...create]);
  const { text } = JSON.parse(stdout) as CreatedInvite;
  const options = swarm.nodeArguments('owl', ['-', '--score']);
  const scorer = await new Daemon('owl', options, {}, `${text}\n`).ready();
  const { peerId } = scorer.lines[0] as { peerId: string };
  await swarm.node('beaver').ready();
  await swarm.node('otter', ['--witness', '--log-level', 'debug']).ready();
  const isBy = (event: { type: string; scorer?: string }, type: string): boolean =>
    event.type === type && event.scorer === peerId;
  const events = await swarm.until(
    'the node evaluates a checkpoint',
    (event) => isBy(event, 'tasks-evaluated') || (event.type === 'scorer-failed' && event.work === 'tasks'),
  );
  expect(events.at(-1)).toMatchObject({ type: 'tasks-evaluated', metric: 'minimal_pairs.acc,none' });
  const scored =
    events.find((event) => isBy(event, 'scored')) ??
    (await swarm.until('the node computes scores', (event) => isBy(event, 'scored'))).at(-1);
  expect(scored).toMatchObject({ type: 'scored', unscored: 0 });
  const log = (): Promise<string> => readFile(join(swarm.homeOf('otter'), 'logs', 'node.log'), 'utf8');
  await eventuallyHolds(async () => expect(await log()).toMatch(/"scores":\{"effects":2,"gains":2/), {
    timeout: 120_000,
  });
  expect(await log()).not.toMatch(/witness-(failed|found-problem|scores-unmeasured)/);
});
