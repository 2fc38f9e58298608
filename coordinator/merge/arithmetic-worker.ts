/** Entry of the worker thread that merges and decodes large adapters: one task, one answer. */
import { parentPort, workerData } from 'node:worker_threads';
import { isSwarmError } from '../../common/errors.ts';
import { type WorkerAnswer, type WorkerTask, work } from './arithmetic.ts';

const answer = await work(workerData as WorkerTask).catch((error: unknown): WorkerAnswer => {
  if (isSwarmError(error)) {
    return { type: 'failed', code: error.code, message: error.message, values: error.values };
  }
  return {
    type: 'failed',
    code: 'WORKER_FAILED',
    message: error instanceof Error ? error.message : String(error),
    values: {},
  };
});
parentPort!.postMessage(answer);
