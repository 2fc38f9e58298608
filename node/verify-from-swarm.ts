import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { withAbortReason } from '../common/abort-reason.ts';
import type { Clock } from '../common/clock.ts';
import { isSwarmError } from '../common/errors.ts';
import { systemClock } from '../common/system-clock.ts';
import type { JobTarget } from '../protocol/invite.ts';
import { openSwarmRecord } from '../verify/swarm-record.ts';
import { type VerifyOptions, type VerifyReport, verifyRecord } from '../verify/verify-job.ts';
import { type JobReader, type ReaderOptions, withReader } from './reader.ts';

/** The job to verify, and the way to reach its coordinator. */
export interface VerifySwarmOptions extends JobTarget, Pick<ReaderOptions, 'keyFolder' | 'version'> {}

/**
 * Fetches the record of a job from the job's coordinator over the network, and verifies it. Fetches blobs one
 * at a time into a temporary folder.
 * @throws SwarmError the errors of `withReader` and `verifyRecord`, and RECORD_INCOMPLETE
 */
export function verifySwarm(
  target: VerifySwarmOptions,
  options: Omit<VerifyOptions, 'job'> = {},
  { clock = systemClock }: { clock?: Clock } = {},
): Promise<VerifyReport> {
  const { signal = new AbortController().signal } = options;
  return withAbortReason(signal, async () => {
    const home = await mkdtemp(join(tmpdir(), 'lora-swarm-verify-'));
    try {
      return await withReader({ ...target, home, signal }, { clock }, async (reader) => {
        const { job, coordinator, head, signedHead, signedManifest: manifest, network } = reader;
        const read = { job, coordinator, manifest, head, signedHead };
        const fetch = fetcherOf(reader, signal);
        const record = await openSwarmRecord(read, { network, clock, signal, fetch });
        return await verifyRecord(record, { ...options, job, signal });
      });
    } finally {
      await rm(home, { recursive: true, force: true });
    }
  });
}

/** Returns a function that fetches a blob into memory, and deletes it from the disk. */
function fetcherOf({ network, blobs, coordinator }: JobReader, signal: AbortSignal) {
  return async (ref: { digest: string; size: number }): Promise<Uint8Array | null> => {
    try {
      await network.fetchBlob(ref, { holders: [coordinator], signal });
      return await blobs.get(ref.digest, { maxBytes: ref.size });
    } catch (error) {
      signal.throwIfAborted();
      // The coordinator has deleted the blob, or does not give it to this peer. The answer is the same in both cases.
      if (isSwarmError(error, 'BLOB_UNAVAILABLE')) return null;
      throw error;
    } finally {
      await blobs.delete(ref.digest);
    }
  };
}
