import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { startNode } from '../../../../node/daemon/daemon.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { withCode } from '../../../utils/source/codes.ts';

it.each([
  [{ port: 'x' }, 'port'],
  [{ name: 'n'.repeat(65) }, 'name'],
  [{ name: 'otter\u001b[31m' }, 'name'],
  [{ policy: { maxDiskBytes: -1 } }, 'policy.maxDiskBytes'],
  [{ policy: { maxMemoryBytes: Number.NaN } }, 'policy.maxMemoryBytes'],
])('a wrong option is a usage error, before the home is made: %j', async (options, field) => {
  const home = join(await temporaryFolder(), 'home');
  const starting = startNode({ home, ...options } as object);
  await expect(starting).rejects.toEqual(withCode('USAGE', { field }));
  expect(existsSync(home)).toBe(false);
});
