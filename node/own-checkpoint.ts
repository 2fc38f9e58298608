import { randomUUID } from 'node:crypto';
import { copyFile, mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../common/clock.ts';
import type { SwarmNetwork } from '../net/network.ts';
import { withSettings } from '../protocol/settings.ts';
import type { BlobCollector } from '../storage/blob-collector.ts';
import type { FileBlobStore } from '../storage/blob-store.ts';
import type { FetchedCheckpoint } from './checkpoint-pull.ts';
import { request } from './contact/requests.ts';
import { nodeError } from './errors.ts';
import { fetchLossCurve } from './loss-curve.ts';
import { fetchOrRecheck } from './phases/recheck.ts';
import { readNewest } from './reader.ts';
import { type JoinedJobRecord, readJoinedJobs } from './store/known-jobs.ts';

interface OwnCheckpointDeps {
  readonly network: SwarmNetwork;
  readonly blobs: FileBlobStore;
  readonly clock: Clock;
  readonly collector: BlobCollector;
}

/**
 * Finds a job that the node of a home has joined. If several jobs match, returns the job that the node joined last.
 * @param text name of the job, its digest or the beginning of the digest
 * @throws SwarmError JOB_NOT_FOUND
 */
export async function joinedJob(home: string, text: string): Promise<JoinedJobRecord> {
  const jobs = await readJoinedJobs(home);
  const named = jobs.findLast(({ name }) => name === text);
  const found = named ?? jobs.findLast(({ job }) => /^[0-9a-f]{4,64}$/.test(text) && job.startsWith(text));
  if (found !== undefined) return found;
  const names = [...new Set(jobs.map(({ name }) => name))].join(', ');
  throw nodeError(
    'JOB_NOT_FOUND',
    `the node in ${home} has joined no job "${text}"${names === '' ? '' : `; it has joined ${names}`}`,
    { home, job: text },
    {
      next: 'name the home of the node with --home, or give the invite of the job ("-" reads it from stdin)',
    },
  );
}

/**
 * Fetches the newest checkpoint of a job over the network of the running node, because a second host with the node's
 * key would disturb the node's connections.
 * @returns the checkpoint; its weights are a copy, which the caller moves or deletes
 * @throws SwarmError JOB_NOT_FOUND, CONNECT_FAILED, CHECKPOINT_UNTRUSTED, and refusals of the network and of admission
 */
export async function fetchOwnCheckpoint(
  { home, job: wanted }: { home: string; job: string },
  { network, blobs, clock, collector }: OwnCheckpointDeps,
  signal: AbortSignal,
): Promise<FetchedCheckpoint> {
  const { addresses, job, token } = await joinedJob(home, wanted);
  const target = { addresses, job, token };
  const newest = await readNewest({ network, target }, { clock }, signal);
  const { coordinator, head } = newest;
  const manifest = head.settings ? withSettings(newest.manifest, head.settings.values) : newest.manifest;
  const { checkpoint, included } = head;
  const { adapter } = checkpoint;
  const folder = join(home, 'pulled');
  return collector.withScope(async (scope) => {
    await scope.hold(adapter.digest);
    await fetchOrRecheck({ job, digest: adapter.digest, coordinator }, { network, clock }, signal, () =>
      network.fetchBlob(adapter, { holders: [coordinator, ...included.map(({ peer }) => peer)], signal }),
    );
    const curve = await fetchLossCurve(newest, (body) =>
      request({ network, clock }, coordinator, 'record', body, signal),
    );
    // Removes a copy that an interrupted command has left.
    await rm(folder, { recursive: true, force: true });
    await mkdir(folder, { recursive: true });
    const weights = join(folder, randomUUID());
    await copyFile(blobs.path(adapter.digest), weights);
    return { job, manifest, checkpoint, curve, weights };
  });
}
