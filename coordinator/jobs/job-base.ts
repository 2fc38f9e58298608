import { join } from 'node:path';
import { maxAdapterBytes } from '../../lora/adapter/codec.ts';
import { type AdapterLayout, adapterLayout, adapterSize } from '../../lora/adapter/layout.ts';
import type { JobSpec } from '../../lora/finetune/settings/job-spec.ts';
import { type BaseDescription, describeBase } from '../../lora/models/base/base-identity.ts';
import { type BaseModel, openBase } from '../../lora/models/base/base-model.ts';
import { updateLimits } from '../../lora/update/index.ts';
import { ADAPTER_BYTES, UPDATE_BYTES } from '../../protocol/limits.ts';
import type { BlobScope } from '../../storage/blob-collector.ts';
import type { FileBlobs } from '../../storage/blobs.ts';
import { storageError } from '../../storage/errors.ts';
import { coordinatorError } from '../errors.ts';

/**
 * Opens a job's base, and computes the layout of its adapter.
 * @throws SwarmError MODEL_*, TENSORS_*, LORA_*, SEQUENCE_TOO_LONG
 */
export async function openJobBase({
  base,
  training: { sequenceLength },
  lora,
}: JobSpec): Promise<{ model: BaseModel; layout: AdapterLayout }> {
  const model = await openBase(base);
  const { maxPositions } = model.config;
  if (sequenceLength > maxPositions) {
    throw coordinatorError(
      'SEQUENCE_TOO_LONG',
      `training.sequenceLength is ${sequenceLength}, but the base takes at most ${maxPositions} tokens`,
      { sequenceLength, maxPositions },
      { next: `set training.sequenceLength to at most ${maxPositions}, or choose another base` },
    );
  }
  const layout = adapterLayout(model, lora);
  checkExchange(layout);
  return { model, layout };
}

/**
 * Checks that an adapter of this layout and the deltas of its checkpoints are small enough to be sent to nodes. An
 * adapter with saved modules can be too large.
 * @throws SwarmError LORA_TOO_LARGE
 */
export function checkExchange(layout: AdapterLayout): void {
  // Compute the size of a delta for the preset `dense`. The coordinator publishes deltas with this preset,
  // even if the updates have a smaller preset.
  const { maximumBytes } = updateLimits(layout, 'dense');
  if (maximumBytes <= UPDATE_BYTES && maxAdapterBytes(layout) <= ADAPTER_BYTES) return;
  const parameters = adapterSize(layout);
  throw coordinatorError(
    'LORA_TOO_LARGE',
    `the adapter has ${parameters} values, so the delta of a round takes up to ${maximumBytes} bytes; the maximum is ${UPDATE_BYTES} bytes`,
    { parameters, bytes: maximumBytes, limit: UPDATE_BYTES },
  );
}

/**
 * Imports the base's files as blobs.
 * @param options.cacheDir folder where the digests of the base's files are cached
 * @param onProgress called after each file with the bytes imported so far and their total
 * @throws SwarmError FILE_CHANGED, STORE_FULL, WRITE_FAILED
 */
export async function importBase(
  dir: string,
  { cacheDir, signal }: { cacheDir: string; signal: AbortSignal },
  { blobs, scope }: { blobs: FileBlobs; scope: BlobScope },
  onProgress: (done: number, total: number) => void,
): Promise<BaseDescription> {
  const base = await describeBase(dir, { signal, cacheDir });
  const total = base.files.reduce((sum, { size }) => sum + size, 0);
  let done = 0;
  for (const { path, size, digest } of base.files) {
    await scope.hold(digest);
    const imported = await blobs.importFile(join(dir, path), { signal });
    if (imported.digest !== digest) {
      const next = 'run the same command again';
      throw storageError('FILE_CHANGED', `${join(dir, path)} changed while it was read`, { path }, { next });
    }
    done += size;
    onProgress(done, total);
  }
  return base;
}
