import { chmod, mkdir, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Logger } from '../../../common/logger.ts';
import { silentLogger } from '../../../monitor/logs/log.ts';
import { makeHomePrivate } from '../../../storage/private-home.ts';
import { temporaryFolder } from '../../utils/folder.ts';
import { expectMode, pretendPlatform } from '../../utils/source/platform.ts';

function recorded(): { log: Logger; lines: [string, object][] } {
  const lines: [string, object][] = [];
  return { lines, log: { ...silentLogger, warn: (fields, action) => void lines.push([action, fields]) } };
}

async function wideHome(): Promise<string> {
  const home = join(await temporaryFolder(), 'home');
  await mkdir(join(home, 'blobs', 'ab'), { recursive: true });
  for (const name of ['identity', 'node.sqlite', 'blobs/ab/blob', 'tool', 'frozen'])
    await writeFile(join(home, name), 'private');
  for (const folder of ['.', 'blobs', 'blobs/ab']) await chmod(join(home, folder), 0o755);
  for (const name of ['identity', 'node.sqlite', 'blobs/ab/blob']) await chmod(join(home, name), 0o664);
  await chmod(join(home, 'tool'), 0o755);
  await chmod(join(home, 'frozen'), 0o400);
  return home;
}

describe.runIf(process.platform !== 'win32')('a home', () => {
  it('loses the rights of other users at the start, in depth, and says so once', async () => {
    const home = await wideHome();
    const { log, lines } = recorded();
    await makeHomePrivate(home, { log });
    for (const folder of ['.', 'blobs', 'blobs/ab', 'tool']) await expectMode(join(home, folder), 0o700);
    for (const name of ['identity', 'node.sqlite', 'blobs/ab/blob'])
      await expectMode(join(home, name), 0o600);
    // Rights of the owner are never added.
    await expectMode(join(home, 'frozen'), 0o400);
    expect(lines).toEqual([['home-made-private', { home, entries: 7 }]]);
    await makeHomePrivate(home, { log });
    expect(lines).toHaveLength(1);
  });

  it('keeps what its links point to as it is', async () => {
    const home = await wideHome();
    const outside = join(await temporaryFolder(), 'outside');
    await writeFile(outside, 'public');
    await chmod(outside, 0o644);
    await symlink(outside, join(home, 'link'));
    await symlink(join(home, 'nowhere'), join(home, 'broken'));
    const { log, lines } = recorded();
    await makeHomePrivate(home, { log });
    await expectMode(outside, 0o644);
    expect(lines.map(([action]) => action)).toEqual(['home-made-private']);
  });

  it('may itself be a link', async () => {
    const home = await wideHome();
    const link = join(await temporaryFolder(), 'link');
    await symlink(home, link);
    await makeHomePrivate(link, { log: silentLogger });
    await expectMode(join(home, 'identity'), 0o600);
    expect((await stat(home)).mode & 0o777).toBe(0o700);
  });

  it('stays as it is on Windows, where the rights of the folder apply', async () => {
    const home = await wideHome();
    pretendPlatform('win32');
    await makeHomePrivate(home, { log: silentLogger });
    expect((await stat(home)).mode & 0o777).toBe(0o755);
  });
});
