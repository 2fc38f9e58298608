import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { withAbortReason } from '../../common/abort-reason.ts';
import { isSwarmError, type SwarmError } from '../../common/errors.ts';
import type { Clock } from '../../common/time/clock.ts';
import { systemClock } from '../../common/time/system-clock.ts';
import { netError } from '../../net/errors.ts';
import type { JobTarget } from '../../protocol/access/invite.ts';
import type { BlobProof } from '../../protocol/access/job-key.ts';
import { openNodeRecord } from '../../verify/node-record.ts';
import type { JobRecord } from '../../verify/record.ts';
import { openSwarmRecord } from '../../verify/swarm-record.ts';
import { type VerifyOptions, type VerifyReport, verifyRecord } from '../../verify/verify-job.ts';
import { OwnJobs } from '../store/own-jobs.ts';
import { nodeThatRefused, readNode } from './read-node.ts';
import { openReaderHost, type ReaderHost, type ReaderOptions, readNewest } from './reader.ts';

/** The job to verify, and the way to reach its coordinator, or a node of the job. */
export interface VerifySwarmOptions extends JobTarget, Pick<ReaderOptions, 'keyFolder' | 'version'> {
  /**
   * Home of a node of this machine, which may be running. Its job keys prove to other nodes that this machine may read a
   * job that is not open. Only a verification from a node uses this home. @default none
   */
  readonly ownNode?: string;
}

/**
 * Fetches the record of a job over the network, from the job's coordinator or from a node of the job, and verifies it.
 * Fetches blobs one at a time into a temporary folder.
 * @throws SwarmError the errors of `openReaderHost`, `readNewest`, `readNode` and `verifyRecord`, and RECORD_INCOMPLETE
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
      const host = await openReaderHost({ ...target, home }, { clock });
      try {
        const { record, job } = await openRecord(host, target, { clock }, signal);
        return await verifyRecord(record, { ...options, job, signal });
      } finally {
        await host.network.stop();
      }
    } finally {
      await rm(home, { recursive: true, force: true });
    }
  });
}

/** Opens the record of the peer at the target's addresses. The answer to the first request shows whether it is a node. */
async function openRecord(
  host: ReaderHost,
  { invite, addresses, ownNode }: VerifySwarmOptions,
  { clock }: { clock: Clock },
  signal: AbortSignal,
): Promise<{ record: JobRecord; job: string }> {
  const deps = { network: host.network, clock, signal };
  try {
    const {
      job,
      coordinator,
      head,
      signedHead,
      signedManifest: manifest,
    } = await readNewest(host, deps, signal);
    const fetch = fetcherOf(host, { holder: coordinator, proof: null }, signal);
    const read = { job, coordinator, manifest, head, signedHead };
    return { job, record: await openSwarmRecord(read, { ...deps, fetch }) };
  } catch (error) {
    if (isSwarmError(error, 'CONNECT_FAILED')) throw orFromNode(error);
    // A token is part of an invite, so the peer that got the token counts as a coordinator too.
    const isInvited = (invite !== undefined && addresses === undefined) || host.target.token !== null;
    const peer = nodeThatRefused(error, { isInvited });
    if (peer === null) throw error;
    const asked = { peer, wanted: host.target.job, own: OwnJobs.read(ownNode) };
    const read = await readNode(host, asked, deps, signal);
    if (read === null) throw error;
    const fetch = fetcherOf(host, { holder: read.peer, proof: read.proof ?? null }, signal);
    return { job: read.job, record: await openNodeRecord(read, { ...deps, fetch }) };
  }
}

/** Adds to the advice of a failed connection that the record can also come from a node. */
function orFromNode(error: SwarmError): SwarmError {
  const { message, values, kind, next } = error;
  const advice =
    'if the coordinator is gone, give the address of a node of the job with --job DIGEST, or the home of your own node with --home';
  return netError('CONNECT_FAILED', message, values, {
    cause: error,
    kind,
    next: next === null ? advice : `${next}; ${advice}`,
  });
}

/** Returns a function that fetches a blob into memory, and deletes it from the disk. */
function fetcherOf(
  { network, blobs }: ReaderHost,
  { holder, proof }: { holder: string; proof: BlobProof | null },
  signal: AbortSignal,
) {
  const prove = proof === null ? {} : { prove: () => proof };
  return async (ref: { digest: string; size: number }): Promise<Uint8Array | null> => {
    try {
      await network.fetchBlob(ref, { holders: [holder], ...prove, signal });
      return await blobs.get(ref.digest, { maxBytes: ref.size });
    } catch (error) {
      signal.throwIfAborted();
      // The peer has deleted the blob, or does not give it to this peer. The answer is the same in both cases.
      if (isSwarmError(error, 'BLOB_UNAVAILABLE')) return null;
      throw error;
    } finally {
      await blobs.delete(ref.digest);
    }
  };
}
