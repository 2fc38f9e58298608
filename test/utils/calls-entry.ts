/** The program of the child processes and threads that the tests of calls start. */

import { readFileSync } from 'node:fs';
import { defineErrors } from '../../common/errors.ts';
import { serveCalls } from '../../common/workers/calls.ts';
import { parentChannel } from '../../common/workers/entry.ts';
import { dataError } from '../../lora/data/errors.ts';

const callError = defineErrors({ ABORTED: 'timeout', CRASHED: { kind: 'internal', next: 'report it' } });

export type TestMethods = {
  double: { request: Float32Array; reply: Float32Array };
  count: { request: number; reply: string; progress: number };
  wait: { request: null; reply: never };
  refuse: { request: null; reply: never };
  crash: { request: null; reply: never };
  read: { request: string; reply: never };
  exit: { request: number; reply: never };
  step: { request: number; reply: null; progress: number };
  complain: { request: string; reply: null };
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
    read: (path) => {
      readFileSync(path);
      throw new Error('the file exists');
    },
    exit: (code) => process.exit(code),
    step: async (steps, { onProgress, resumed }) => {
      for (let i = 1; i <= steps; i++) {
        await resumed();
        onProgress(i);
        await new Promise(setImmediate);
      }
      return null;
    },
    complain: (text) => {
      process.stderr.write(text);
      return null;
    },
  },
  {
    channel: parentChannel(),
    failed: (message, options) => callError('CRASHED', message, {}, options),
    aborted: (message) => callError('ABORTED', message),
  },
);
