import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  claimHome,
  homeRole,
  notRunning,
  readDaemonFile,
  writeDaemonFile,
} from '../../../storage/daemon-home.ts';
import { temporaryFolder } from '../../utils/folder.ts';
import { expectMode } from '../../utils/source/platform.ts';

const daemon = {
  role: 'node',
  pid: 1,
  url: 'http://x',
  peerId: 'p',
  addresses: ['/a'],
  sharedRegistry: null,
  startedAt: 2,
} as const;

describe('the home of a daemon', () => {
  it('is created for its owner only', async () => {
    const home = join(await temporaryFolder(), 'a', 'home');
    await claimHome(home, 'node');
    await expectMode(home, 0o700);
    expect(homeRole(home)).toBeNull();
  });

  it('is refused to the other role', async () => {
    const home = await temporaryFolder();
    await writeFile(join(home, 'coordinator.sqlite'), '');
    await claimHome(home, 'coordinator');
    await expect(claimHome(home, 'node')).rejects.toMatchObject({ code: 'HOME_ROLE', kind: 'conflict' });
    expect(notRunning(home, 'node')).toMatchObject({
      code: 'DAEMON_NOT_RUNNING',
      values: { home, role: 'node', owner: 'coordinator' },
    });
  });

  it('says how to reach its daemon', async () => {
    const home = await temporaryFolder();
    expect(await readDaemonFile(home, 'node')).toBeNull();
    const path = await writeDaemonFile(home, daemon);
    expect(path).toBe(join(home, 'node.json'));
    expect(await readDaemonFile(home, 'node')).toEqual(daemon);
    expect(await readDaemonFile(home, 'coordinator')).toBeNull();
  });
});
