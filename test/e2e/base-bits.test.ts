import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { TestSwarm } from './swarm.ts';

const NODES = { otter: '32', heron: '8', badger: '4' } as const;

it('nodes with a 32-bit, an 8-bit and a 4-bit base contribute to one job, and its held-out loss falls', async () => {
  const swarm = await TestSwarm.create();
  await (await swarm.coordinator()).ready();
  const nodeCount = Object.keys(NODES).length;
  // Sets the default tolerance of jobs, with which the gate leaves out a harmful update. `TestSwarm` itself would set
  // one that accepts every merge.
  await swarm.createJob({
    rounds: { count: 3, localSteps: 40, minPeers: nodeCount, quorum: 1, maxSeconds: 300 },
    training: { learningRate: 1e-2, warmupSteps: 5 },
    acceptance: { tolerance: 0.002 },
  });
  const peers: unknown[] = [];
  for (const [name, bits] of Object.entries(NODES)) {
    const node = await swarm.node(name, ['--base-bits', bits]).ready();
    const { peerId } = await node.line('ready', ({ event }) => event === 'ready');
    peers.push(peerId);
  }
  await swarm.untilFinished();

  for (const [name, bits] of Object.entries(NODES)) {
    const kinds = (await readdir(join(swarm.homeOf(name), 'cache'))).map((file) => file.split('.').at(-1));
    expect(kinds).toContainEqual(expect.stringMatching(bits === '32' ? /^f32$/ : `^q${bits}v`));
  }
  const [start, ...merged] = (await swarm.checkpoints()).map(({ checkpoint }) => checkpoint);
  expect(merged).toHaveLength(3);
  for (const { contributors } of merged)
    expect(contributors.map(({ peer }) => peer).sort()).toEqual(peers.sort());
  expect(merged.at(-1)!.metrics.heldOutLoss).toBeLessThan(0.9 * start!.metrics.heldOutLoss!);
}, 600_000);
