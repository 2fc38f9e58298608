import { existsSync } from 'node:fs';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { commonError } from '../../common/common-errors.ts';
import { isSwarmError, SwarmError } from '../../common/errors.ts';
import { writeDurably } from '../../common/files/durable.ts';
import type { MissingBlob } from '../../verify/bundle/format.ts';
import { openBundle } from '../../verify/bundle/open.ts';
import type { BlobWanted } from '../../verify/record.ts';
import { type VerifyOptions, type VerifyReport, verifyRecord } from '../../verify/verify-job.ts';
import type { BundleLine } from '../api/bundle-routes.ts';
import { ApiClient, type CoordinatorAddress } from './api-client.ts';
import { bytesAfterLines } from './http.ts';

/** Options for writing a bundle. */
export interface BundleOptions {
  /** Whether the bundle has the adapters, deltas and payloads that the coordinator still has. @default true */
  readonly blobs?: boolean;
  /** @default never aborts */
  readonly signal?: AbortSignal;
  /** Called with the number of bytes that have been written so far. */
  readonly onProgress?: (bytes: number) => void;
  /**
   * Called before the first byte is written, while the coordinator checks and repairs its blobs. `checked`: number of blobs
   * that have been checked, of `blobs` in all. `repairing`: the blob that is being repaired; null while the next one is checked.
   */
  readonly onRepair?: (progress: { checked: number; blobs: number; repairing: MissingBlob | null }) => void;
}

/** A bundle that was written. */
export interface WrittenBundle {
  readonly file: string;
  /** Size of the file in bytes. */
  readonly bytes: number;
  /** Blobs that the bundle lacks because the coordinator could not repair them. A verification skips their checks. */
  readonly missing: readonly MissingBlob[];
}

/**
 * Writes the bundle of a job to a file, atomically.
 * @throws SwarmError OUTPUT_EXISTS, JOB_UNKNOWN, DAEMON_NOT_RUNNING, DAEMON_GONE, BUNDLE_MALFORMED, STORE_FULL, WRITE_FAILED
 */
export async function bundleJob(
  where: CoordinatorAddress | ApiClient,
  job: string,
  file: string,
  {
    blobs = true,
    signal = new AbortController().signal,
    onProgress,
    onRepair = () => {},
  }: BundleOptions = {},
): Promise<WrittenBundle> {
  const api = where instanceof ApiClient ? where : await ApiClient.connect(where, { signal });
  if (existsSync(file)) {
    throw commonError('OUTPUT_EXISTS', `${file} exists`, { file }, { next: 'choose another file name' });
  }
  let bytes = 0;
  await writeDurably(file, async (handle) => {
    const onLine = (line: unknown): boolean => takeLine(line as BundleLine, onRepair);
    for await (const chunk of bundleBytes(api, job, { blobs, signal, onLine })) {
      await handle.writeFile(chunk);
      bytes += chunk.byteLength;
      onProgress?.(bytes);
    }
  });
  // A coordinator that cannot complete a bundle breaks off its answer. The incomplete file is deleted.
  try {
    const bundle = await openBundle(file);
    await bundle.close();
    return { file, bytes: (await stat(file)).size, missing: bundle.missing };
  } catch (error) {
    await rm(file, { force: true });
    throw error;
  }
}

/**
 * Verifies a job of the coordinator on this machine. Reads the blobs one at a time from the coordinator.
 * @throws SwarmError JOB_UNKNOWN, DAEMON_NOT_RUNNING, and the errors of `verifyRecord`
 */
export async function verifyOwnJob(
  where: CoordinatorAddress | ApiClient,
  job: string,
  options: VerifyOptions = {},
): Promise<VerifyReport> {
  const { signal = new AbortController().signal } = options;
  const api = where instanceof ApiClient ? where : await ApiClient.connect(where, { signal });
  const folder = await mkdtemp(join(tmpdir(), 'lora-swarm-verify-'));
  try {
    const file = join(folder, 'record.bundle');
    await bundleJob(api, job, file, { blobs: false, signal });
    const bundle = await openBundle(file);
    const { manifest, settings } = bundle;
    try {
      const blob = (wanted: BlobWanted): Promise<Uint8Array | null> => fetchBlob(api, wanted, signal);
      return await verifyRecord(
        { manifest, settings, blob, checkpoints: () => bundle.checkpoints(0) },
        options,
      );
    } finally {
      await bundle.close();
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function* bundleBytes(
  api: ApiClient,
  job: string,
  { blobs, signal, onLine }: { blobs: boolean; signal: AbortSignal; onLine: (line: unknown) => boolean },
): AsyncGenerator<Uint8Array, void, undefined> {
  try {
    yield* bytesAfterLines(api.bundle(job, `blobs=${blobs}&progress=1`, signal), onLine);
  } catch (error) {
    // A coordinator of an earlier release refuses `progress`, and sends only the bundle.
    if (!isSwarmError(error, 'REQUEST_INVALID')) throw error;
    yield* api.bundle(job, `blobs=${blobs}`, signal);
  }
}

/**
 * Handles a line before a bundle. Returns whether another line follows.
 * @throws SwarmError the error of the coordinator
 */
function takeLine(line: BundleLine, onRepair: NonNullable<BundleOptions['onRepair']>): boolean {
  if (line.event === 'error') throw SwarmError.fromJSON(line);
  if (line.event === 'progress') {
    const { checked, blobs, repairing } = line;
    onRepair({ checked, blobs, repairing });
  }
  return line.event !== 'bundle';
}

async function fetchBlob(api: ApiClient, { digest, maxBytes }: BlobWanted, signal: AbortSignal) {
  try {
    const chunks: Uint8Array[] = [];
    let bytes = 0;
    for await (const chunk of api.blob(digest, { signal })) {
      bytes += chunk.byteLength;
      if (bytes > maxBytes) break;
      chunks.push(chunk);
    }
    return Buffer.concat(chunks);
  } catch (error) {
    if (isSwarmError(error, 'BLOB_MISSING')) return null;
    throw error;
  }
}
