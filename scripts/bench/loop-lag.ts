/**
 * Measures the event loop of the process that loads this file with `node --import`. Appends a line to the file LAG_FILE
 * each 250 ms: the maximum processor time between two turns of the event loop, in milliseconds. Processor time is
 * measured, because it contains only the delay that the process itself causes, even on a busy machine.
 */
import { appendFileSync } from 'node:fs';
import { isMainThread } from 'node:worker_threads';

const RESOLUTION_MS = 2;
const LINE_MS = 250;

const file = process.env.LAG_FILE;
// Child processes inherit the environment. Only the coordinator itself must write to the file.
if (file !== undefined && isMainThread && process.argv.includes('coordinator')) {
  const used = (): number => {
    const { user, system } = process.threadCpuUsage();
    return (user + system) / 1000;
  };
  let last = used();
  let most = 0;
  setInterval(() => {
    const now = used();
    most = Math.max(most, now - last);
    last = now;
  }, RESOLUTION_MS).unref();
  setInterval(() => {
    appendFileSync(file, `${most.toFixed(2)}\n`);
    most = 0;
    // The time for writing the line does not count as lag.
    last = used();
  }, LINE_MS).unref();
}
