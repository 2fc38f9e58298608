import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import type { BanView, PeerReceipts, PeerView } from '../../protocol/api/peers.ts';
import { swarmFile, TestSwarm, within } from './swarm.ts';

/** Exit code of a refused command. */
const REFUSED = 5;

async function run<T>(swarm: TestSwarm, ...args: string[]): Promise<T> {
  const all = [swarmFile, ...args, '--home', swarm.home, '--json'];
  return JSON.parse((await promisify(execFile)(process.execPath, all)).stdout) as T;
}

it('a banned node stops and says why, also after a restart of the coordinator, until it is pardoned', async () => {
  const swarm = await TestSwarm.create();
  const coordinator = await (await swarm.coordinator()).ready();
  await swarm.createJob({ rounds: { minPeers: 1, count: 400, localSteps: 50 } });
  const first = await swarm.node('otter').ready();
  const { peerId } = first.lines[0] as { peerId: string };
  await swarm.until('otter delivers', (event) => event.type === 'update' && event.peer === peerId);

  const end = peerId.slice(-6);
  const banned = await run<PeerReceipts>(swarm, 'peers', 'ban', end, '--reason', 'a test', '--for', '7d');
  expect(banned).toMatchObject({
    peer: peerId,
    bans: [{ cause: 'operator', reason: 'a test', job: null }],
    standings: [{ standing: 'banned' }],
  });
  const { code } = await within('otter ends', first.exited, () => JSON.stringify(first.lines));
  expect(code).toBe(REFUSED);
  expect(first.lines.at(-1)).toMatchObject({
    error: { values: { code: 'BANNED', message: expect.stringMatching(/\b20\d\d-.*: a test$/) } },
  });
  await coordinator.interrupt();
  await (await swarm.coordinator()).ready();
  const again = swarm.node('otter');
  const lines = () => JSON.stringify(again.lines);
  expect(await within('otter ends again', again.exited, lines)).toMatchObject({ code: REFUSED });
  const listed = await run<{ peers: PeerView[]; bans: BanView[] }>(swarm, 'peers');
  expect(listed).toMatchObject({ peers: [], bans: [{ peer: peerId }] });

  await run(swarm, 'peers', 'pardon', end);
  const pardoned = (await swarm.until('the pardon', ({ type }) => type === 'pardoned')).at(-1)!;
  await swarm.node('otter').ready();
  await swarm.until(
    'otter delivers again',
    (event) => event.type === 'update' && event.peer === peerId && event.sequence > pardoned.sequence,
  );
  const { peers } = await run<{ peers: PeerView[] }>(swarm, 'peers');
  expect(peers).toMatchObject([{ peer: peerId, standing: 'good' }]);
}, 200_000);
