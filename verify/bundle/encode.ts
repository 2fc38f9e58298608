import { isSwarmError } from '../../common/errors.ts';
import { encodeCbor, sha256 } from '../../protocol/cbor.ts';
import { ADAPTER_BYTES, BLOB_RANGE_BYTES, RESIDUAL_BYTES, UPDATE_BYTES } from '../../protocol/limits.ts';
import type { Checkpoint, Figures } from '../../protocol/messages.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import { verifyError } from '../errors.ts';
import type { BlobWanted, CheckpointRecord } from '../record.ts';
import { carHeader, DAG_CBOR, RAW, sectionHead } from './car.ts';
import { type BUNDLED_USES, type MissingBlob, ROOT_BYTES } from './format.ts';

/** The parts of a job from which a bundle is made. */
export interface BundleSource {
  /** Signed manifest. */
  readonly manifest: Uint8Array;
  /** Signed changes of the settings, oldest first. */
  readonly settings: readonly Uint8Array[];
  /** Yields all checkpoints, oldest first. It is called twice, and both calls must yield the same checkpoints. */
  checkpoints(): Iterable<CheckpointRecord>;
  /** Blobs of the job: adapters, deltas, residuals and payloads. Null leaves all blobs out. */
  readonly blobs: BundledBlobs | null;
  /** Blobs that are left out because they are damaged. The bundle names them. @default none */
  readonly missing?: readonly MissingBlob[];
}

/** Yields each blob that the bundle of a job should contain, once. @throws SwarmError MESSAGE_*, SIGNATURE_INVALID */
export function* blobsIn(source: Pick<BundleSource, 'checkpoints'>): Generator<UsedBlob, void, undefined> {
  const seen = new Set<string>();
  for (const record of source.checkpoints()) {
    for (const blob of blobsOf(record)) {
      if (!seen.has(blob.digest)) yield blob;
      seen.add(blob.digest);
    }
  }
}

/** Reads the blobs of a bundle. A blob that does not exist is left out of the bundle. */
export interface BundledBlobs {
  /** Returns the size of a blob in bytes; null if it does not exist. */
  size(digest: string): Promise<number | null>;
  read(digest: string, offset: number, length: number): Promise<Uint8Array>;
}

/**
 * Encodes a bundle. Yields its bytes in pieces of about a MiB at most. The same job gives the same bytes.
 * @throws SwarmError BUNDLE_TOO_LARGE, BUNDLE_CHANGED
 */
export async function* encodeBundle(source: BundleSource): AsyncGenerator<Uint8Array, void, undefined> {
  const { manifest, settings, blobs, missing = [] } = source;
  const checkpoints: string[] = [];
  for (const record of source.checkpoints()) checkpoints.push(sha256(encodeRecord(record)));
  // Leave the field out if it is empty, because older versions of this program refuse it.
  const more = missing.length > 0 && { missing };
  const root = encodeCbor({ bundle: 1, manifest, settings, checkpoints, ...more });
  if (root.byteLength > ROOT_BYTES) {
    const text = `the job has ${checkpoints.length} checkpoints, which is more than a bundle can have`;
    throw verifyError(
      'BUNDLE_TOO_LARGE',
      text,
      { checkpoints: checkpoints.length },
      { next: 'verify the job from its coordinator or a node instead' },
    );
  }
  const digest = sha256(root);
  yield carHeader(digest);
  yield* block(DAG_CBOR, digest, root);
  const wanted = new Set<string>();
  const lost = new Set(missing.map((one) => one.digest));
  let count = 0;
  for (const record of source.checkpoints()) {
    const bytes = encodeRecord(record);
    const found = sha256(bytes);
    if (found !== checkpoints[count++]) {
      const text = 'the record of the job changed while it was written';
      throw verifyError('BUNDLE_CHANGED', text, { checkpoint: count - 1 });
    }
    yield* block(DAG_CBOR, found, bytes);
    if (blobs !== null) {
      for (const { digest: blob } of blobsOf(record)) {
        if (!lost.has(blob) && (await blobs.size(blob)) !== null) wanted.add(blob);
      }
    }
  }
  for (const blob of wanted) yield* blobBlock(blob, blobs!);
}

/** Encodes the block of a checkpoint. */
export function encodeRecord({
  checkpoint,
  residual,
  proofs,
  figures,
  nullFigures = [],
  heads,
}: CheckpointRecord): Uint8Array {
  // Leave the field out if it is empty, because older versions of this program refuse it.
  const more = nullFigures.length > 0 && { nullFigures };
  return encodeCbor({ checkpoint, residual, proofs, figures, ...more, heads });
}

/** A blob that the checks of a checkpoint can use. */
export interface UsedBlob extends BlobWanted {
  readonly use: (typeof BUNDLED_USES)[number];
  /** Whether the blob is the payload of an update that was scored and is not in the merge. @default false */
  readonly isOnlyScored?: boolean;
  /** Round of the checkpoint. */
  readonly round: number;
}

/** Returns the blobs that the checks of a checkpoint can use. @throws SwarmError MESSAGE_*, SIGNATURE_INVALID */
export function blobsOf({ checkpoint: envelope, residual, figures }: CheckpointRecord): UsedBlob[] {
  const { round, adapter, delta, contributors } = verifyMessage('checkpoint', envelope).message;
  return [
    { use: 'adapter', round, ...adapter, maxBytes: ADAPTER_BYTES },
    ...(delta === null ? [] : [{ use: 'delta', round, ...delta, maxBytes: UPDATE_BYTES } as const]),
    ...(residual === null
      ? []
      : [{ use: 'residual', round, digest: residual, size: null, maxBytes: RESIDUAL_BYTES } as const]),
    ...contributors.map(
      ({ update }) =>
        ({ use: 'payload', round, digest: update, size: null, maxBytes: UPDATE_BYTES }) as const,
    ),
    ...scoredPayloads(figures, contributors).map(
      ({ update, size = null }) =>
        ({
          use: 'payload',
          isOnlyScored: true,
          round,
          digest: update,
          size,
          maxBytes: UPDATE_BYTES,
        }) as const,
    ),
  ];
}

/** Returns the scored updates that are not in the merge. Ignores invalid figures, because the checks report them. */
function scoredPayloads(
  figures: Uint8Array | null,
  contributors: Checkpoint['contributors'],
): Figures['updates'] {
  if (figures === null) return [];
  try {
    const { updates } = verifyMessage('figures', figures).message;
    return updates.filter((one) => !contributors.some(({ update }) => update === one.update));
  } catch (error) {
    if (!isSwarmError(error)) throw error;
    return [];
  }
}

function* block(kind: typeof DAG_CBOR, digest: string, bytes: Uint8Array): Generator<Uint8Array> {
  yield sectionHead(kind, digest, bytes.byteLength);
  yield bytes;
}

async function* blobBlock(digest: string, blobs: BundledBlobs): AsyncGenerator<Uint8Array> {
  const size = await blobs.size(digest);
  // Leave out the blob if the coordinator has deleted it since the bundle was begun.
  if (size === null) return;
  yield sectionHead(RAW, digest, size);
  for (let at = 0; at < size; at += BLOB_RANGE_BYTES) {
    const bytes = await blobs.read(digest, at, Math.min(BLOB_RANGE_BYTES, size - at));
    if (bytes.byteLength !== Math.min(BLOB_RANGE_BYTES, size - at)) {
      const text = `blob ${digest} changed while it was written`;
      throw verifyError('BUNDLE_CHANGED', text, { digest });
    }
    yield bytes;
  }
}
