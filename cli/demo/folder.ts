import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { isSystemError } from '../../common/errors.ts';
import { makeFolder } from '../../common/files/folders.ts';

/** Creates a folder `.swarm/demo-<UTC time>` in `cwd`, with a number at the end when that name is taken. */
export async function demoFolder(cwd: string, now: number): Promise<string> {
  const stamp = new Date(now).toISOString().slice(0, 19).replace(/[-:]/g, '').replace('T', '-');
  await makeFolder(join(cwd, '.swarm'));
  for (let n = 1; ; n++) {
    const dir = join(cwd, '.swarm', n === 1 ? `demo-${stamp}` : `demo-${stamp}-${n}`);
    try {
      await mkdir(dir);
      return dir;
    } catch (error) {
      if (!isSystemError(error, 'EEXIST')) throw error;
    }
  }
}
