import { isSwarmError } from '../../common/errors.ts';
import { decodeAdapter, encodeAdapter, maxAdapterBytes } from '../../lora/adapter/codec.ts';
import { applyDelta } from '../../lora/update/outer.ts';
import { sha256 } from '../../protocol/cbor.ts';
import { UPDATE_BYTES } from '../../protocol/limits.ts';
import type { Head } from '../../protocol/messages.ts';
import type { BlobScope } from '../../storage/blob-collector.ts';
import { storageError } from '../../storage/errors.ts';
import { type HeldAdapter, holdersOf, type ReadyContext } from '../context.ts';
import { nodeError } from '../errors.ts';

/**
 * Gets the adapter of a head, the cheapest way that gives exactly its digest: it is held already, lies in the blob
 * store, follows from the held one by the round's delta, or is fetched whole.
 * @throws SwarmError BLOB_*, ADAPTER_*, TENSORS_*
 */
export function sync(
  context: ReadyContext,
  held: HeldAdapter | null,
  head: Head,
  signal: AbortSignal,
): Promise<HeldAdapter> {
  const { deps, collector, job } = context;
  const { digest: checkpoint, adapter } = head.checkpoint;
  return collector.withScope(async (scope) => {
    const tensors =
      held?.digest === adapter.digest
        ? held.tensors
        : ((await stored(context, adapter)) ??
          (await stepped(context, held ?? (await remembered(context)), head, scope, signal)) ??
          (await fetched(context, head, scope, signal)));
    signal.throwIfAborted();
    deps.store.saveAdapter(job, { checkpoint, digest: adapter.digest, bytes: adapter.size });
    return { checkpoint, digest: adapter.digest, tensors };
  });
}

type Tensors = readonly Float32Array[];

/** An adapter that lies in the blob store; null when it does not, or is damaged. */
async function stored(
  { deps, layout }: ReadyContext,
  { digest, size }: { digest: string; size: number },
): Promise<Tensors | null> {
  if (!(await deps.blobs.has(digest))) return null;
  try {
    return decodeChecked(await deps.blobs.get(digest, { maxBytes: size }), digest, layout);
  } catch (error) {
    if (!isSwarmError(error)) throw error;
    deps.log.warn({ digest, code: error.code }, 'stored-adapter-unusable');
    return null;
  }
}

/** The adapter that this node held before it was restarted. */
async function remembered(context: ReadyContext): Promise<HeldAdapter | null> {
  const { checkpoint, adapter, adapterBytes } = context.deps.store.job(context.job);
  if (!checkpoint || !adapter) return null;
  const tensors = await stored(context, { digest: adapter, size: adapterBytes });
  return tensors && { checkpoint, digest: adapter, tensors };
}

/** The held adapter plus the round's delta; null when there is none for it, or the result is not what it should be. */
async function stepped(
  context: ReadyContext,
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
    await deps.network.fetchBlob(delta, { holders: holdersOf(context, head), signal });
    const bytes = await deps.blobs.get(delta.digest, { maxBytes: Math.min(delta.size, UPDATE_BYTES) });
    const tensors = applyDelta(layout, held.tensors, bytes);
    const encoded = encodeAdapter(layout, tensors, manifest.base.digest);
    if (sha256(encoded) !== adapter.digest) {
      throw nodeError('DELTA_MISMATCH', 'the delta does not lead to the adapter of its checkpoint', {
        delta: delta.digest,
        adapter: adapter.digest,
      });
    }
    signal.throwIfAborted();
    await scope.put(encoded);
    return tensors;
  } catch (error) {
    signal.throwIfAborted();
    if (!isSwarmError(error)) throw error;
    deps.log.warn(
      { round: head.checkpoint.round, code: error.code, reason: error.message },
      'delta-unusable',
    );
    return null;
  }
}

async function fetched(
  context: ReadyContext,
  head: Head,
  scope: BlobScope,
  signal: AbortSignal,
): Promise<Tensors> {
  const { deps, layout } = context;
  const { adapter } = head.checkpoint;
  const most = maxAdapterBytes(layout);
  if (adapter.size > most) {
    throw nodeError(
      'ADAPTER_TOO_LARGE',
      `the head names an adapter of ${adapter.size} bytes, one of this job's shape has at most ${most}`,
      { size: adapter.size, most },
    );
  }
  await scope.hold(adapter.digest);
  try {
    await deps.network.fetchBlob(adapter, {
      holders: holdersOf(context, head),
      signal,
      onProgress: ({ bytes, total }) => context.onDownload({ what: 'adapter', bytes, total }),
    });
  } finally {
    context.onDownload(null);
  }
  const bytes = await deps.blobs.get(adapter.digest, { maxBytes: adapter.size });
  return decodeChecked(bytes, adapter.digest, layout);
}

/** Nothing is trained from, or added to, bytes that are not the ones a head names. */
function decodeChecked(bytes: Uint8Array, digest: string, layout: ReadyContext['layout']): Tensors {
  const found = sha256(bytes);
  if (found !== digest) {
    throw storageError('BLOB_CORRUPT', `blob ${digest} holds bytes with the digest ${found}`, {
      digest,
      found,
    });
  }
  return decodeAdapter(bytes, layout);
}
