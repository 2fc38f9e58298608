import { isSwarmError } from '../../common/errors.ts';
import { decodeAdapter, encodeAdapter, maxAdapterBytes } from '../../lora/adapter/codec.ts';
import { applyDelta } from '../../lora/update/feedback.ts';
import { sha256 } from '../../protocol/cbor.ts';
import { UPDATE_BYTES } from '../../protocol/limits.ts';
import type { Head } from '../../protocol/messages.ts';
import type { BlobScope } from '../../storage/blob-collector.ts';
import { storageError } from '../../storage/errors.ts';
import { obtain } from '../blobs/obtain.ts';
import { nodeError } from '../errors.ts';
import type { HeldAdapter, ReadyPort } from './port.ts';

/**
 * Gets the adapter of a head. Tries these sources, the cheapest first: memory, the blob store, the round's delta added
 * to the adapter that this node has (`held`), a download of the whole adapter.
 * @throws SwarmError BLOB_*, ADAPTER_*, TENSORS_*
 */
export function sync(
  context: ReadyPort,
  held: HeldAdapter | null,
  head: Head,
  signal: AbortSignal,
): Promise<HeldAdapter> {
  const { deps, collector, job } = context;
  const { digest: checkpoint, adapter } = head.checkpoint;
  return collector.withScope(async (scope) => {
    const tensors =
      held?.digest === adapter.digest
        ? await fromMemory(context, held, scope)
        : ((await readStored(context, adapter)) ??
          (await withDelta(context, held ?? (await heldBeforeRestart(context)), head, scope, signal)) ??
          (await fetchWhole(context, head, scope, signal)));
    signal.throwIfAborted();
    deps.store.saveAdapter(job, { checkpoint, digest: adapter.digest, bytes: adapter.size });
    return { checkpoint, digest: adapter.digest, tensors };
  });
}

type Tensors = readonly Float32Array[];

/** Returns the adapter in memory. If its blob has been deleted from the blob store, stores the blob again. */
async function fromMemory(
  { deps, layout, manifest }: ReadyPort,
  { digest, tensors }: HeldAdapter,
  scope: BlobScope,
): Promise<Tensors> {
  await scope.hold(digest);
  if (!(await deps.blobs.has(digest)))
    await scope.put(encodeAdapter(layout, tensors, manifest.base.digest), digest);
  return tensors;
}

/** Reads an adapter from the blob store. Returns null when it is missing or damaged. */
async function readStored(
  { deps, layout, coordinator }: ReadyPort,
  { digest, size }: { digest: string; size: number },
): Promise<Tensors | null> {
  // Use the stored adapter only if this coordinator supplied it. A copy from a job of another coordinator
  // does not count, so the adapter is fetched from the peers of this job (see obtain.ts).
  if (!deps.store.origins.has(digest, coordinator) || !(await deps.blobs.has(digest))) return null;
  try {
    return decodeChecked(await deps.blobs.get(digest, { maxBytes: size }), digest, layout);
  } catch (error) {
    if (!isSwarmError(error)) throw error;
    deps.log.warn({ digest, code: error.code }, 'stored-adapter-rejected');
    return null;
  }
}

/** Reads the adapter that this node held before it was restarted. Returns null when there is none. */
async function heldBeforeRestart(context: ReadyPort): Promise<HeldAdapter | null> {
  const { checkpoint, adapter, adapterBytes } = context.deps.store.job(context.job);
  if (!checkpoint || !adapter) return null;
  const tensors = await readStored(context, { digest: adapter, size: adapterBytes });
  return tensors && { checkpoint, digest: adapter, tensors };
}

/**
 * Adds the round's delta to the held adapter. Returns null if the head has no delta for this adapter, if the delta
 * cannot be fetched, or if the result does not have the digest that the head names.
 */
async function withDelta(
  context: ReadyPort,
  held: HeldAdapter | null,
  head: Head,
  scope: BlobScope,
  signal: AbortSignal,
): Promise<Tensors | null> {
  const { deps, layout, manifest } = context;
  const { delta, adapter } = head.checkpoint;
  if (!held || !delta || held.checkpoint !== delta.parent) return null;
  try {
    await scope.hold(delta.digest);
    await obtain(context, delta, { head, signal });
    const bytes = await deps.blobs.get(delta.digest, { maxBytes: Math.min(delta.size, UPDATE_BYTES) });
    const tensors = applyDelta(layout, held.tensors, bytes);
    const encoded = encodeAdapter(layout, tensors, manifest.base.digest);
    if (sha256(encoded) !== adapter.digest) {
      throw nodeError(
        'DELTA_MISMATCH',
        `applying the delta ${delta.digest} does not give the adapter ${adapter.digest} of its checkpoint`,
        {
          delta: delta.digest,
          adapter: adapter.digest,
        },
      );
    }
    signal.throwIfAborted();
    await scope.put(encoded);
    deps.store.origins.add(adapter.digest, context.coordinator);
    return tensors;
  } catch (error) {
    signal.throwIfAborted();
    if (!isSwarmError(error)) throw error;
    deps.log.warn(
      { round: head.checkpoint.round, code: error.code, reason: error.message },
      'delta-rejected',
    );
    return null;
  }
}

async function fetchWhole(
  context: ReadyPort,
  head: Head,
  scope: BlobScope,
  signal: AbortSignal,
): Promise<Tensors> {
  const { deps, layout } = context;
  const { adapter } = head.checkpoint;
  const limit = maxAdapterBytes(layout);
  if (adapter.size > limit) {
    throw nodeError(
      'ADAPTER_TOO_LARGE',
      `the head names an adapter of ${adapter.size} bytes; an adapter of this job has at most ${limit} bytes`,
      { size: adapter.size, limit },
    );
  }
  await scope.hold(adapter.digest);
  try {
    await obtain(context, adapter, {
      head,
      signal,
      onProgress: ({ bytes, total }) => context.onDownload({ what: 'adapter', bytes, total }),
    });
  } finally {
    context.onDownload(null);
  }
  const bytes = await deps.blobs.get(adapter.digest, { maxBytes: adapter.size });
  return decodeChecked(bytes, adapter.digest, layout);
}

/** @throws SwarmError BLOB_CORRUPT if the bytes do not have the digest that the head names */
function decodeChecked(bytes: Uint8Array, digest: string, layout: ReadyPort['layout']): Tensors {
  const found = sha256(bytes);
  if (found !== digest) {
    throw storageError('BLOB_CORRUPT', `blob ${digest} contains bytes with the digest ${found}`, {
      digest,
      found,
    });
  }
  return decodeAdapter(bytes, layout);
}
