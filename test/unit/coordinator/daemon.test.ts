import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { startCoordinator } from '../../../coordinator/daemon.ts';
import { temporaryFolder } from '../../utils/folder.ts';
import { withCode } from '../../utils/source/codes.ts';

it.each([
  [{ port: 'x' }, 'port'],
  [{ port: 65536 }, 'port'],
  [{ keepCheckpoints: -4 }, 'keepCheckpoints'],
  [{ mdns: 'no' }, 'mdns'],
  [{ version: 'v'.repeat(100) }, 'version'],
])('a wrong option is a usage error, before the home is made: %j', async (options, field) => {
  const home = join(await temporaryFolder(), 'home');
  const starting = startCoordinator({ home, ...options } as object);
  await expect(starting).rejects.toEqual(withCode('USAGE', { field }));
  expect(existsSync(home)).toBe(false);
});
