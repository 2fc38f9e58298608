import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { isSwarmError } from '../../common/errors.ts';
import { lockFolder } from '../../common/file-lock.ts';
import { finetuneError } from './errors.ts';

/**
 * Makes this process the only one that trains into a folder: two would remove each other's checkpoints. The lock lies in
 * the cache, so that the output holds nothing but what the run is for; it goes with the process, however that ends.
 *
 * @param output absolute
 * @returns a function that gives the lock back
 * @throws SwarmError OUTPUT_BUSY
 */
export function lockOutput(output: string, { cacheDir }: { cacheDir: string }): () => void {
  const name = createHash('sha256').update(output).digest('hex').slice(0, 32);
  try {
    return lockFolder(join(cacheDir, 'locks', name));
  } catch (cause) {
    if (!isSwarmError(cause, 'FOLDER_LOCKED')) throw cause;
    const { pid } = cause.values;
    throw finetuneError(
      'OUTPUT_BUSY',
      `process ${pid ?? '(unknown)'} is training into ${output}`,
      { output, pid },
      { next: 'wait until it is done, stop it, or choose another folder', cause },
    );
  }
}
