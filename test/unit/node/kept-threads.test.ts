import { writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { expect, it, vi } from 'vitest';
import { startNode } from '../../../node/daemon/daemon.ts';
import { temporaryFolder } from '../../utils/folder.ts';

/** Threads with which trainers were made. */
const threads = vi.hoisted((): unknown[] => []);

vi.mock(import('../../../node/trainer/training-process.ts'), async (original) => {
  const { TrainingProcess } = await original();
  return {
    TrainingProcess: class extends TrainingProcess {
      constructor(...[options, deps]: ConstructorParameters<typeof TrainingProcess>) {
        super(options, deps);
        threads.push(options.compute.threads);
      }
    },
  };
});

it.each([
  ['the limit in the home', { threads: 3 }, {}, 3],
  ['an option at the start before the limit in the home', { threads: 3 }, { threads: 2 }, 2],
  ['all threads but one without a limit', {}, {}, Math.max(1, availableParallelism() - 1)],
])('the trainer gets %s', async (_, limits, compute, expected) => {
  const home = await temporaryFolder();
  await writeFile(join(home, 'limits.json'), JSON.stringify({ version: 1, limits, pausedUntil: null }));
  const node = await startNode({ home, compute, listen: ['/ip4/127.0.0.1/tcp/0'], mdns: false });
  await node.stop();
  expect(threads.splice(0)).toEqual([expected]);
});
