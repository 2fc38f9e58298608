import { readFile } from 'node:fs/promises';
import { Worker } from 'node:worker_threads';
import type { ErrorJson } from '../../common/errors.ts';
import { SwarmError } from '../../common/errors.ts';
import type { AdapterLayout } from '../../lora/adapter/layout.ts';
import { decodeUpdate, planLayout } from '../../lora/update/index.ts';
import { sha256 } from '../../protocol/cbor.ts';
import type { BlobStore, FileBlobs } from '../../storage/blobs.ts';
import { storageError } from '../../storage/errors.ts';
import { coordinatorError } from '../errors.ts';
import type { Preset } from '../round/plan.ts';
import { type Merged, type MergeInput, mergedValues, mergeUpdates } from './merge-updates.ts';

/** Values that a merge processes in about 100 ms, drift included. Below that, starting a thread takes longer. */
export const INLINE_VALUES = 1_000_000;

export type WorkerTask =
  | { readonly type: 'merge'; readonly input: MergeInput; readonly paths: Readonly<Record<string, string>> }
  | {
      readonly type: 'check';
      readonly payload: Uint8Array;
      readonly layout: AdapterLayout;
      readonly preset: Preset;
    };

export type WorkerAnswer =
  | { readonly type: 'merged'; readonly merged: Merged }
  | { readonly type: 'checked' }
  | { readonly type: 'failed'; readonly error: ErrorJson };

/**
 * Merges updates; large adapters in a worker thread, which reads the files of the blobs itself. A blob store in memory has
 * no files, so its merges run in the calling thread.
 */
export async function merge(
  input: MergeInput,
  { blobs, signal }: { blobs: BlobStore; signal: AbortSignal },
): Promise<Merged> {
  const values = mergedValues(input.layout, input.sources.length);
  if (values <= INLINE_VALUES || !hasFiles(blobs)) {
    return mergeUpdates(input, (digest, maxBytes) => blobs.get(digest, { maxBytes }));
  }
  const { adapter, residual, sources } = input;
  const digests = [
    adapter.digest,
    ...(residual === null ? [] : [residual]),
    ...sources.map(({ digest }) => digest),
  ];
  const paths = Object.fromEntries(digests.map((digest) => [digest, blobs.path(digest)]));
  const answer = await runWorker({ type: 'merge', input, paths }, signal);
  if (answer.type !== 'merged')
    throw coordinatorError('WORKER_ANSWER', `the merge worker answered ${answer.type}`, {});
  return answer.merged;
}

/** Decodes a stranger's payload as the merge will decode it; large ones in a worker thread. @throws SwarmError UPDATE_* */
export async function checkPayload(
  payload: Uint8Array,
  { layout, preset }: { layout: AdapterLayout; preset: Preset },
  { signal }: { signal: AbortSignal },
): Promise<void> {
  if (planLayout(layout).parameters <= INLINE_VALUES) decodeUpdate(payload, layout, preset);
  else await runWorker({ type: 'check', payload, layout, preset }, signal);
}

function hasFiles(blobs: BlobStore): blobs is FileBlobs {
  return 'path' in blobs;
}

/** Carries out a task in the worker thread. */
export async function work(task: WorkerTask): Promise<WorkerAnswer> {
  if (task.type === 'check') {
    decodeUpdate(task.payload, task.layout, task.preset);
    return { type: 'checked' };
  }
  const merged = await mergeUpdates(task.input, async (digest) => {
    const bytes = await readFile(task.paths[digest]!).catch((cause: NodeJS.ErrnoException) => {
      if (cause.code !== 'ENOENT') throw cause;
      throw storageError('BLOB_MISSING', `blob ${digest} is not in the store`, { digest }, { cause });
    });
    if (sha256(bytes) === digest) return bytes;
    throw storageError('BLOB_CORRUPT', `blob ${digest} is damaged on disk`, { digest });
  });
  return { type: 'merged', merged };
}

/** Starts a thread for each task: starting takes 0.1 s, and ending the thread frees what the task allocated. */
function runWorker(task: WorkerTask, signal: AbortSignal): Promise<WorkerAnswer> {
  signal.throwIfAborted();
  // The build turns this file and the entry into .js.
  const entry = import.meta.url.endsWith('.ts') ? './arithmetic-worker.ts' : './arithmetic-worker.js';
  const worker = new Worker(new URL(entry, import.meta.url), { workerData: task });
  let onAbort = (): void => {};
  return new Promise<WorkerAnswer>((resolve, reject) => {
    onAbort = () => reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    worker.once('message', (answer: WorkerAnswer) => {
      if (answer.type === 'failed') reject(SwarmError.fromJSON(answer.error));
      else resolve(answer);
    });
    worker.once('error', reject);
    worker.once('exit', (code) =>
      reject(
        coordinatorError('WORKER_DIED', `the merge worker ended with code ${code}`, {
          code,
        }),
      ),
    );
  }).finally(() => {
    // The signal lives as long as the coordinator, so listeners would accumulate.
    signal.removeEventListener('abort', onAbort);
    return worker.terminate();
  });
}
