/** A child process or thread for the tests of calls. */

import { serveCalls } from '../../common/workers/calls.ts';
import { parentChannel } from '../../common/workers/entry.ts';
import { dataError } from '../../lora/data/errors.ts';

export type TestMethods = {
  double: { request: Float32Array; reply: Float32Array };
  count: { request: number; reply: string; progress: number };
  wait: { request: null; reply: never };
  refuse: { request: null; reply: never };
  crash: { request: null; reply: never };
  exit: { request: number; reply: never };
};

const notify = serveCalls<TestMethods>(
  {
    double: (values) => values.map((value) => 2 * value),
    count: (to, { onProgress }) => {
      for (let i = 1; i <= to; i++) onProgress(i);
      notify(`counted to ${to}`);
      return 'done';
    },
    wait: (_, { signal }) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason));
      }),
    refuse: () => {
      throw dataError('DATA_COLUMNS', 'no such column', { column: 'x' }, { next: 'name another' });
    },
    crash: () => {
      throw new TypeError('a defect');
    },
    exit: (code) => process.exit(code),
  },
  { channel: parentChannel(), failed: 'CRASHED', aborted: 'ABORTED' },
);
