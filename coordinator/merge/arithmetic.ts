import { raceSignal } from 'race-signal';
import { entryOf } from '../../common/workers/entry.ts';
import { ThreadCalls } from '../../common/workers/thread.ts';
import type { AdapterLayout } from '../../lora/adapter/layout.ts';
import { decodeUpdate, planLayout, type SparseUpdate } from '../../lora/update/index.ts';
import { UPDATE_BYTES } from '../../protocol/limits.ts';
import type { BlobStore, FileBlobs } from '../../storage/blobs.ts';
import { withRepairs } from '../../storage/repairing-blobs.ts';
import {
  type Merged,
  type MergeInput,
  type MergeSource,
  mergedValues,
  mergeUpdates,
} from '../../verify/merge/merge-updates.ts';
import { coordinatorError } from '../errors.ts';
import type { Preset } from '../round/plan.ts';

/**
 * Maximum number of values that are processed in the calling thread. A merge of this many values takes about
 * 100 ms, including the measurement of drift. Starting a worker thread takes about as long, so only larger
 * merges use a worker thread.
 */
export const INLINE_VALUES = 1_000_000;

export type ArithmeticMethods = {
  /** Merges updates. `paths`: path of the file of each blob, by digest. */
  merge: { request: { input: MergeInput; paths: Readonly<Record<string, string>> }; reply: Merged };
  decode: {
    request: { path: string; digest: string; layout: AdapterLayout; preset: Preset };
    reply: SparseUpdate;
  };
  check: { request: { payload: Uint8Array; layout: AdapterLayout; preset: Preset }; reply: boolean };
};

/**
 * Merges updates. A large merge runs in a worker thread, which reads the files of the blobs itself. A blob store in
 * memory has no files, so its merges run in the calling thread.
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
  return withRepairs(blobs, () => inThread('merge', { input, paths }, signal));
}

/**
 * Reads and decodes an update. A large update is decoded in a worker thread.
 * @throws SwarmError BLOB_MISSING, BLOB_CORRUPT, UPDATE_*
 */
export async function loadUpdate(
  { digest, preset }: Pick<MergeSource, 'digest' | 'preset'>,
  { layout, blobs, signal }: { layout: AdapterLayout; blobs: BlobStore; signal: AbortSignal },
): Promise<SparseUpdate> {
  if (planLayout(layout).parameters <= INLINE_VALUES || !hasFiles(blobs)) {
    return decodeUpdate(await blobs.get(digest, { maxBytes: UPDATE_BYTES }), layout, preset);
  }
  const path = blobs.path(digest);
  return withRepairs(blobs, () => inThread('decode', { path, digest, layout, preset }, signal));
}

/**
 * Checks that a merge can decode a payload. The check of a large adapter runs in a worker thread. Returns false if all
 * values of the payload are zero, so that the update would change nothing.
 * @throws SwarmError UPDATE_*
 */
export async function checkPayload(
  payload: Uint8Array,
  { layout, preset }: { layout: AdapterLayout; preset: Preset },
  { signal }: { signal: AbortSignal },
): Promise<boolean> {
  if (planLayout(layout).parameters > INLINE_VALUES)
    return inThread('check', { payload, layout, preset }, signal);
  return changesValues(decodeUpdate(payload, layout, preset));
}

/** Returns whether any value of an update is not zero. */
export function changesValues({ tensors }: SparseUpdate): boolean {
  return tensors.some(({ values }) => values.some((value) => value !== 0));
}

function hasFiles(blobs: BlobStore): blobs is FileBlobs {
  return 'path' in blobs;
}

/** Runs a task in a new thread, which takes 0.1 s to start. All memory of the task is freed when the thread ends. */
export async function inThread<N extends keyof ArithmeticMethods>(
  method: N,
  request: ArithmeticMethods[N]['request'],
  signal: AbortSignal,
): Promise<ArithmeticMethods[N]['reply']> {
  signal.throwIfAborted();
  const thread = new ThreadCalls<ArithmeticMethods>(entryOf(import.meta, './arithmetic-thread'), {
    ended: (cause) => coordinatorError('WORKER_DIED', 'the merge thread ended too early', {}, { cause }),
  });
  try {
    return await raceSignal(thread.call(method, request), signal);
  } finally {
    await thread.terminate();
  }
}
