/** Entry of the worker thread that merges and decodes large adapters. It carries out one task. */
import { parentPort, workerData } from 'node:worker_threads';
import { errorJson } from '../../common/errors.ts';
import { type WorkerAnswer, type WorkerTask, work } from './arithmetic.ts';

const answer = await work(workerData as WorkerTask).catch(
  (error: unknown): WorkerAnswer => ({ type: 'failed', error: errorJson(error, 'WORKER_FAILED') }),
);
parentPort!.postMessage(answer);
