import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { isSwarmError } from '../../common/errors.ts';
import { lockFolder } from '../../common/files/file-lock.ts';
import { finetuneError } from './errors.ts';

/**
 * Makes this process the only one that trains into a folder, because two processes would delete each other's
 * checkpoints. The lock is a file in the cache, so that the output holds only results. The operating system releases
 * the lock when the process ends.
 *
 * @param output absolute path
 * @returns a function that releases the lock
 * @throws SwarmError OUTPUT_BUSY
 */
export function lockOutput(output: string, { cacheDir }: { cacheDir: string }): () => void {
  const name = createHash('sha256').update(output).digest('hex').slice(0, 32);
  try {
    return lockFolder(join(cacheDir, 'locks', name));
  } catch (cause) {
    if (!isSwarmError(cause, 'FOLDER_LOCKED')) throw cause;
    const { pid } = cause.values;
    const message = `process ${pid ?? '(unknown)'} is training into ${output}`;
    throw finetuneError('OUTPUT_BUSY', message, { output, pid }, { cause });
  }
}
