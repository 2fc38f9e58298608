/**
 * Makes the process that loads this file with `node --import` collect its garbage on SIGUSR2, so that its resident memory
 * can be measured without garbage.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;
process.on('SIGUSR2', () => {
  // The first collection runs finalisers, which release buffers. The second collection then frees these buffers.
  collect();
  setImmediate(() => collect());
});
