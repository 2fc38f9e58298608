import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import type { CreatedInvite } from '../../coordinator/api/types.ts';
import { Daemon, swarmFile, TestSwarm } from './swarm.ts';

it('a node of the operator computes the scores of a round', async () => {
  const swarm = await TestSwarm.create();
  await (await swarm.coordinator()).ready();
  await swarm.createJob({ rounds: { minPeers: 2, count: 400, localSteps: 80 } });
  const create = ['invite', 'create', 'tale', '--role', 'operator', '--home', swarm.home, '--json'];
  const { stdout } = await promisify(execFile)(process.execPath, [swarmFile, ...create]);
  const { text } = JSON.parse(stdout) as CreatedInvite;
  const options = swarm.nodeArguments('owl', ['-', '--score']);
  const scorer = await new Daemon('owl', options, {}, `${text}\n`).ready();
  const { peerId } = scorer.lines[0] as { peerId: string };
  for (const name of ['otter', 'beaver']) await swarm.node(name).ready();
  const isScored = (event: { type: string; scorer?: string }): boolean =>
    event.type === 'scored' && event.scorer === peerId;
  const scored = (await swarm.until('the node computes scores', isScored)).at(-1)!;
  expect(scored).toMatchObject({ type: 'scored', unscored: 0 });
});
