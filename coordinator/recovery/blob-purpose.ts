import { decodeAdapter, encodeAdapter } from '../../lora/adapter/codec.ts';
import { applyDelta } from '../../lora/update/feedback.ts';
import type { DamagedWhat } from '../../protocol/api/job-events.ts';
import { encodeCbor } from '../../protocol/cbor.ts';
import { ADAPTER_BYTES, UPDATE_BYTES } from '../../protocol/limits.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import type { BlobStore } from '../../storage/blobs.ts';
import type { CheckpointToWrite } from '../context.ts';
import type { JobRun } from '../job-run.ts';
import type { BlobUse } from '../store/blobs.ts';

/** The purpose of a blob in a job, and the ways to get the blob back. */
export interface BlobPurpose {
  readonly run: JobRun;
  readonly what: DamagedWhat;
  /** Human-readable name of the blob: the name of a base file, or the round of a checkpoint or an update. */
  readonly name: string;
  /** Size in bytes; null if no record of the job contains it. A blob of unknown size cannot be fetched. */
  readonly size: number | null;
  /** Computes the blob from other data. @default not possible */
  readonly rebuild?: (blobs: Pick<BlobStore, 'get'>) => Promise<Uint8Array>;
  /** The checkpoint whose folder has a hard link to the blob. @default none */
  readonly folder?: CheckpointToWrite;
  /**
   * Author of the update if the blob is an update; otherwise null. The coordinator asks the author for the
   * blob before it asks other nodes.
   */
  readonly author: string | null;
}

/** Returns the purpose of a blob for one of its uses; null if the records of the job do not contain the blob. */
export function purposeOf(
  digest: string,
  { use, round }: { use: BlobUse; round: number },
  run: JobRun,
): BlobPurpose | null {
  const { job, manifest, layout, deps } = run.context;
  const common = { run, author: null };
  if (use === 'job') {
    const file = manifest.base.files.find((one) => one.digest === digest);
    if (file) return { ...common, what: 'base', name: file.path, size: file.size };
    const shard = manifest.data.shards.findIndex((one) => one.digest === digest);
    if (shard >= 0) {
      return { ...common, what: 'data', name: `shard ${shard}`, size: manifest.data.shards[shard]!.size };
    }
    const stored = deps.store.rounds.checkpointOf(job, digest);
    if (stored === null) return null;
    const body = encodeCbor(verifyMessage('checkpoint', stored.envelope).message);
    const size = body.byteLength;
    return { ...common, what: 'checkpoint', name: `round ${stored.round}`, size, rebuild: async () => body };
  }
  if (use === 'adapter' || use === 'step') {
    const stored = deps.store.rounds.checkpoint(job, round);
    if (stored === null) return null;
    const { message: checkpoint } = verifyMessage('checkpoint', stored.envelope);
    const { adapter, delta, parent } = checkpoint;
    const name = `round ${round}`;
    if (use === 'step') {
      if (delta?.digest === digest) return { ...common, what: 'delta', name, size: delta.size };
      return { ...common, what: 'residual', name, size: null };
    }
    const { envelope } = stored;
    const folder = { manifest, layout, digest: stored.digest, checkpoint, envelope };
    const before = parent === null ? null : deps.store.rounds.checkpointOf(job, parent);
    if (delta === null || before === null)
      return { ...common, folder, what: 'adapter', name, size: adapter.size };
    const from = verifyMessage('checkpoint', before.envelope).message.adapter.digest;
    return {
      ...common,
      folder,
      what: 'adapter',
      name,
      size: adapter.size,
      rebuild: async (blobs) => {
        const tensors = decodeAdapter(await blobs.get(from, { maxBytes: ADAPTER_BYTES }), layout);
        const step = await blobs.get(delta.digest, { maxBytes: UPDATE_BYTES });
        return encodeAdapter(layout, applyDelta(layout, tensors, step), manifest.base.digest);
      },
    };
  }
  const update = deps.store.updates.ofRounds(job, round, round).find((one) => one.digest === digest);
  if (update === undefined) return null;
  return { run, what: 'update', name: `round ${round}`, size: update.size, author: update.peer };
}
