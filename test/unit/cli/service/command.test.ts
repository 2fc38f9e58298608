import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { createProgram } from '../../../../cli/program.ts';
import { fakeContext } from '../../../utils/cli-context.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { expectMode, pretendPlatform } from '../../../utils/platform.ts';

const ADDRESS = '/ip4/127.0.0.1/tcp/4040/p2p/12D3KooWCTHPmgWPqnKKBfSHKWEqLaDEtXYGW2TDqQnCMFNaDFbB';

async function install(folder: string, environment: Record<string, string>, ...args: string[]) {
  const home = { HOME: folder, SWARM_HOME: join(folder, 'home') };
  const { context, out } = fakeContext({ environment: { ...home, ...environment } });
  const all = ['service', 'install', 'node', '--no-start', '--json', ...args];
  await createProgram(context).parseAsync(all, { from: 'user' });
  return JSON.parse(out()) as { file: string; home: string; started: boolean; commands: string[][] };
}

it('keeps the invite in a private file, and out of the arguments of the daemon', async () => {
  pretendPlatform('linux');
  const folder = await temporaryFolder();
  const { file, home, commands } = await install(folder, { SWARM_INVITE: ADDRESS }, '--', '--threads', '2');
  const invite = join(home, 'invite');
  expect(await readFile(invite, 'utf8')).toBe(`${ADDRESS}\n`);
  await expectMode(invite, 0o600);
  const unit = await readFile(file, 'utf8');
  expect(unit).not.toContain('p2p');
  expect(unit).toContain(`"node" "--home" "${home}" "--invite-file" "${invite}" "--threads" "2"`);
  expect(commands[0]).toContain('daemon-reload');
  // The next call needs no invite.
  expect(await install(folder, {}, '--', '--threads', '2')).toMatchObject({ file });
});

it.each(['swarm1abc', '--invite-file', '--home=x'])('refuses %s as an option of the daemon', async (word) => {
  await expect(install(await temporaryFolder(), {}, '--', word)).rejects.toMatchObject({ code: 'USAGE' });
});
