import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it, onTestFinished, vi } from 'vitest';
import { createProgram } from '../../../../cli/program.ts';
import { readKnownJobs } from '../../../../node/store/known-jobs.ts';
import { fakeContext } from '../../../utils/cli-context.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { expectMode, pretendPlatform } from '../../../utils/source/platform.ts';

const ADDRESS = '/ip4/127.0.0.1/tcp/4040/p2p/12D3KooWCTHPmgWPqnKKBfSHKWEqLaDEtXYGW2TDqQnCMFNaDFbB';

async function install(folder: string, environment: Record<string, string>, ...args: string[]) {
  const home = { HOME: folder, SWARM_HOME: join(folder, 'home') };
  const { context, out } = fakeContext({ environment: { ...home, ...environment } });
  const all = ['service', 'install', 'node', '--no-start', '--json', ...args];
  await createProgram(context).parseAsync(all, { from: 'user' });
  return JSON.parse(out()) as { file: string; home: string; started: boolean; commands: string[][] };
}

it('keeps the invite where the node keeps its jobs, and out of the arguments of the daemon', async () => {
  pretendPlatform('linux');
  const folder = await temporaryFolder();
  const { file, home, commands } = await install(folder, { SWARM_INVITE: ADDRESS }, '--', '--threads', '2');
  const known = join(home, 'known-jobs.json');
  await expectMode(known, 0o600);
  expect(await readKnownJobs(home)).toMatchObject([{ addresses: [ADDRESS], name: null }]);
  expect(await readdir(home)).toEqual(['known-jobs.json']);
  const unit = await readFile(file, 'utf8');
  expect(unit).not.toContain('p2p');
  expect(unit).toContain(`"node" "--home" "${home}" "--threads" "2"`);
  expect(commands[0]).toContain('daemon-reload');
  // The invite has been kept, so the next call needs none.
  expect(await install(folder, {}, '--', '--threads', '2')).toMatchObject({ file });
  // A new invite is not kept if the file of the service is not replaced.
  await expect(install(folder, { SWARM_INVITE: `${ADDRESS.slice(0, -1)}C` })).rejects.toMatchObject({
    code: 'SERVICE_EXISTS',
  });
  expect(await readKnownJobs(home)).toHaveLength(1);
});

it('uninstall keeps the invites of the node, which may have joined other jobs before', async () => {
  pretendPlatform('linux');
  const folder = await temporaryFolder();
  const { home } = await install(folder, { SWARM_INVITE: ADDRESS });
  const { context, out } = fakeContext({ environment: { HOME: folder, SWARM_HOME: home } });
  // With this PATH, no systemctl is found. The test therefore cannot stop a service of the machine.
  vi.stubEnv('PATH', folder);
  onTestFinished(() => void vi.unstubAllEnvs());
  await createProgram(context).parseAsync(['service', 'uninstall', 'node', '--json'], { from: 'user' });
  expect(JSON.parse(out())).toMatchObject({ kept: home });
  expect(await readKnownJobs(home)).toHaveLength(1);
});

it('names the home of the service in its output, even if uninstall does not get it', async () => {
  pretendPlatform('linux');
  const folder = await temporaryFolder();
  const home = join(folder, 'other');
  const environment = { HOME: folder, SWARM_INVITE: ADDRESS };
  const { context, out } = fakeContext({ environment });
  const args = ['service', 'install', 'node', '--no-start', '--home', home];
  await createProgram(context).parseAsync(args, { from: 'user' });
  const next = out()
    .split('\n')
    .find((line) => line.includes('service logs'));
  expect(next?.match(/npx lora-swarm /g)).toHaveLength(3);
  expect(next).toMatch(/ status --home \S+other$/);
  vi.stubEnv('PATH', folder);
  onTestFinished(() => void vi.unstubAllEnvs());
  const later = fakeContext({ environment: { HOME: folder } });
  const uninstall = ['service', 'uninstall', 'node', '--json'];
  await createProgram(later.context).parseAsync(uninstall, { from: 'user' });
  expect(JSON.parse(later.out())).toMatchObject({ kept: home });
});

it('a coordinator finds its registry and caches again: the service gets the variables that decide where they lie', async () => {
  pretendPlatform('linux');
  const folder = await temporaryFolder();
  const environment = {
    HOME: folder,
    SWARM_HOME: 'home',
    SWARM_REGISTRY: 'r',
    HF_HOME: '~/hf',
    HF_TOKEN: 'secret',
  };
  const { context, out } = fakeContext({ environment, cwd: folder });
  const args = ['service', 'install', 'coordinator', '--no-start', '--json'];
  await createProgram(context).parseAsync(args, { from: 'user' });
  const unit = await readFile((JSON.parse(out()) as { file: string }).file, 'utf8');
  const lines = unit.split('\n').filter((line) => line.startsWith('Environment='));
  expect(lines).toEqual([
    `Environment="SWARM_HOME=${join(folder, 'home')}"`,
    `Environment="SWARM_REGISTRY=${join(folder, 'r')}"`,
    'Environment="HF_HOME=~/hf"',
  ]);
});

it.each(['swarm1abc', '--invite-file', '--home=x'])('refuses %s as an option of the daemon', async (word) => {
  await expect(install(await temporaryFolder(), {}, '--', word)).rejects.toMatchObject({ code: 'USAGE' });
});
