/**
 * Measures the live memory of the process that loads this file with `node --import`. On SIGUSR2, it collects all garbage
 * and appends a line to the file LIVE_FILE: the bytes of live objects and of live buffers.
 */
import { appendFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { isMainThread } from 'node:worker_threads';

const file = process.env.LIVE_FILE;
// Child processes inherit the environment. Only the coordinator itself must write to the file.
if (file !== undefined && isMainThread && process.argv.includes('coordinator')) {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  process.on('SIGUSR2', () => {
    // The first collection runs finalisers, which release buffers. The second collection then frees these buffers.
    collect();
    setImmediate(() => {
      collect();
      const { heapUsed, external } = process.memoryUsage();
      appendFileSync(file, `${heapUsed + external}\n`);
    });
  });
}
