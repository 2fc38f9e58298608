import { execFile } from 'node:child_process';
import { readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { exitCodes } from '../../cli/exit-codes.ts';
import type { CreatedInvite, InviteView } from '../../protocol/api/coordinator.ts';
import { Daemon, swarmFile, TestSwarm, within } from './swarm.ts';

const REFUSED = 5;

async function run<T>(swarm: TestSwarm, ...args: string[]): Promise<T> {
  const all = [swarmFile, ...args, '--home', swarm.home, '--json'];
  return JSON.parse((await promisify(execFile)(process.execPath, all)).stdout) as T;
}

/** Waits until a node has ended by itself, and returns the code with which the coordinator refused it. */
async function shutOut(name: string, node: Daemon): Promise<unknown> {
  const { code } = await within(`${name} ends`, node.exited, () => JSON.stringify(node.lines));
  expect(code).toBe(REFUSED);
  const { error } = node.lines.at(-1) as { error: { values: { code: string } } };
  expect(error).toMatchObject({ code: 'RPC_REFUSED', next: expect.stringContaining('invite') });
  return error.values.code;
}

it('a person joins with an invite that no other machine can use, and is removed when the invite is revoked', async () => {
  const swarm = await TestSwarm.create();
  const coordinator = await (await swarm.coordinator()).ready();
  await swarm.createJob({ admission: 'invite', rounds: { minPeers: 1, count: 400, localSteps: 50 } });
  const ada = await run<CreatedInvite>(swarm, 'invite', 'create', 'tale', '--name', 'ada');
  const bob = await run<CreatedInvite>(
    swarm,
    'invite',
    'create',
    'tale',
    '--name',
    'bob',
    '--expires',
    'never',
  );

  // Each node reads its invite from stdin, so no process has an invite in its arguments.
  const start = (name: string): Daemon =>
    new Daemon(name, swarm.nodeArguments(name, ['-']), {}, `${ada.text}\n`);
  const first = await start('ada').ready();
  const { peerId: adaId } = first.lines[0] as { peerId: string };
  await swarm.until('ada joins', (event) => event.type === 'peer-joined' && event.peer === adaId);
  expect(await shutOut('eve', start('eve'))).toBe('INVITE_USED');
  const file = join(swarm.folder, 'bob.invite');
  await writeFile(file, bob.text);
  const other = await new Daemon('bob', swarm.nodeArguments('bob', ['--invite-file', file])).ready();
  const { peerId: bobId } = other.lines[0] as { peerId: string };
  await swarm.until('bob delivers', (event) => event.type === 'update' && event.peer === bobId);
  await swarm.until('ada delivers', (event) => event.type === 'update' && event.peer === adaId);

  const pull = async (output: string) => {
    const args = ['checkpoint', 'pull', 'tale', join(swarm.folder, output), '--json'];
    const all = [swarmFile, ...args, '--home', swarm.homeOf('bob')];
    return JSON.parse((await promisify(execFile)(process.execPath, all)).stdout) as {
      name: string;
      round: number;
    };
  };
  // The invite is for one machine, and bob's node has used it. So the command downloads with the key of this node.
  expect(await pull('while-it-runs')).toMatchObject({ name: 'tale' });
  // `checkpoint pull` also takes an invite. It then downloads with the key of the node that has used the invite.
  const args = ['checkpoint', 'pull', '--invite-file', file, join(swarm.folder, 'by-invite')];
  const pullByInvite = (home: string) =>
    promisify(execFile)(process.execPath, [swarmFile, ...args], {
      env: { ...process.env, SWARM_HOME: swarm.homeOf(home) },
    });
  await expect(pullByInvite('eve')).rejects.toMatchObject({ code: exitCodes.refused });
  expect((await pullByInvite('bob')).stdout).toMatch(/\btale\b/);

  const revoked = await run<InviteView>(swarm, 'invite', 'revoke', 'ada');
  expect(revoked).toMatchObject({ state: 'revoked', nodes: [{ peer: adaId }] });
  // The operator can still name the node that was removed.
  expect(await run(swarm, 'peers', '--why', 'ada')).toMatchObject({ peer: adaId });
  const api = await swarm.api();
  const peers = await api.peers();
  expect(peers).toMatchObject([{ peer: bobId, person: `invite:${bob.id}`, connected: true }]);
  expect(await shutOut('ada', first)).toBe('INVITE_REVOKED');

  // From now on, the coordinator refuses ada's key and her invite, also after a restart.
  expect(await shutOut('ada', start('ada'))).toBe('INVITE_REVOKED');
  await coordinator.interrupt();
  await (await swarm.coordinator()).ready();
  expect(await shutOut('ada', start('ada'))).toBe('INVITE_REVOKED');
  expect(await shutOut('eve', start('eve'))).toBe('INVITE_REVOKED');

  const { round } = (await (await swarm.api()).job('tale')).checkpoint;
  const events = await swarm.until(
    'bob goes on',
    (event) => event.type === 'checkpoint' && event.round > round,
  );
  const removal = events.findIndex(
    (event) => event.type === 'peer-lost' && event.peer === adaId && event.reason === 'revoked',
  );
  expect(removal).toBeGreaterThan(0);
  // The coordinator may still audit an update that ada delivered before the revocation.
  const later = events
    .slice(removal + 1)
    .filter((event) => 'peer' in event && event.peer === adaId && event.type !== 'audited');
  expect(later.map(({ type }) => type)).toEqual([]);
  // No other user of the machine may read the homes, or a file that a daemon or trainer wrote into them.
  for (const home of [swarm.home, swarm.homeOf('bob')]) {
    for (const name of ['.', ...(await readdir(home, { recursive: true }))]) {
      const found = await stat(join(home, name)).catch(() => null);
      if (process.platform !== 'win32' && found !== null) expect(found.mode & 0o077, name).toBe(0);
    }
  }
  await other.interrupt();
  expect((await pull('after-its-end')).round).toBeGreaterThan(round);
  const listed = await run<{ invites: InviteView[] }>(swarm, 'invite', 'list', 'tale');
  expect(listed.invites.map(({ name, state }) => [name, state])).toEqual([
    [null, 'active'],
    ['ada', 'revoked'],
    ['bob', 'used'],
  ]);
}, 300_000);
