import { readFile } from 'node:fs/promises';
import { Worker } from 'node:worker_threads';
import type { ErrorJson } from '../../common/errors.ts';
import { SwarmError } from '../../common/errors.ts';
import type { AdapterLayout } from '../../lora/adapter/layout.ts';
import { planLayout } from '../../lora/update/index.ts';
import { sha256 } from '../../protocol/cbor.ts';
import type { BlobStore, FileBlobs } from '../../storage/blobs.ts';
import { storageError } from '../../storage/errors.ts';
import { coordinatorError } from '../errors.ts';
import type { Preset } from '../round/plan.ts';
import { checkPayload, type Merged, type MergeInput, mergeUpdates, mergeWork } from './merge-updates.ts';

/** The heavy arithmetic of a coordinator: in this thread, or in one of its own where it would hold up everything else. */
export interface Arithmetic {
  merge(input: MergeInput, options: { signal: AbortSignal }): Promise<Merged>;
  /** Decodes a payload from a stranger. @throws SwarmError UPDATE_* */
  check(
    payload: Uint8Array,
    update: { layout: AdapterLayout; preset: Preset },
    options: { signal: AbortSignal },
  ): Promise<void>;
}

/** Everything in the calling thread. */
export class InlineArithmetic implements Arithmetic {
  readonly #blobs: BlobStore;

  constructor(_options: object, deps: { blobs: BlobStore }) {
    this.#blobs = deps.blobs;
  }

  merge(input: MergeInput): Promise<Merged> {
    return mergeUpdates(input, (digest, maxBytes) => this.#blobs.get(digest, { maxBytes }));
  }

  async check(
    payload: Uint8Array,
    { layout, preset }: { layout: AdapterLayout; preset: Preset },
  ): Promise<void> {
    checkPayload(payload, layout, preset);
  }
}

/** Values that go through a merge in about 100 ms, the drift included: less is done faster than a thread is started. */
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

/** Large adapters in a worker thread, which reads the blobs' files itself; small ones in the calling thread. */
export class WorkerArithmetic implements Arithmetic {
  readonly #blobs: FileBlobs;
  readonly #inline: InlineArithmetic;

  constructor(options: object, deps: { blobs: FileBlobs }) {
    this.#blobs = deps.blobs;
    this.#inline = new InlineArithmetic(options, deps);
  }

  async merge(input: MergeInput, { signal }: { signal: AbortSignal }): Promise<Merged> {
    if (mergeWork(input.layout, input.sources.length) <= INLINE_VALUES) return this.#inline.merge(input);
    const { adapter, residual, sources } = input;
    const digests = [
      adapter.digest,
      ...(residual === null ? [] : [residual]),
      ...sources.map(({ digest }) => digest),
    ];
    const paths = Object.fromEntries(digests.map((digest) => [digest, this.#blobs.path(digest)]));
    const answer = await runWorker({ type: 'merge', input, paths }, signal);
    if (answer.type !== 'merged')
      throw coordinatorError('WORKER_ANSWER', `the merge worker answered ${answer.type}`, {});
    return answer.merged;
  }

  async check(
    payload: Uint8Array,
    { layout, preset }: { layout: AdapterLayout; preset: Preset },
    { signal }: { signal: AbortSignal },
  ): Promise<void> {
    if (planLayout(layout).parameters <= INLINE_VALUES)
      return this.#inline.check(payload, { layout, preset });
    await runWorker({ type: 'check', payload, layout, preset }, signal);
  }
}

/** What the worker thread does with a task. */
export async function work(task: WorkerTask): Promise<WorkerAnswer> {
  if (task.type === 'check') {
    checkPayload(task.payload, task.layout, task.preset);
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

/** One thread per task: it starts in a tenth of a second, and what it has allocated goes with it. */
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
        coordinatorError('WORKER_DIED', `the merge worker ended with code ${code}; it is tried again`, {
          code,
        }),
      ),
    );
  }).finally(() => {
    // The signal lives as long as the coordinator.
    signal.removeEventListener('abort', onAbort);
    return worker.terminate();
  });
}
