import { randomUUID } from 'node:crypto';
import { copyFile, mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { renameWithRetry } from '../../common/files/durable.ts';
import type { Clock } from '../../common/time/clock.ts';
import type { SwarmNetwork } from '../../net/network.ts';
import { type JobTarget, resolveTarget } from '../../protocol/access/invite.ts';
import type { BlobCollector } from '../../storage/blob-collector.ts';
import { FileBlobStore } from '../../storage/blob-store.ts';
import { fetchOrRecheck } from '../blobs/recheck.ts';
import { request } from '../contact/requests.ts';
import { nodeError } from '../errors.ts';
import type { BlobOrigins } from '../store/blob-origins.ts';
import { type JoinedJobRecord, readJoinedJobs } from '../store/known-jobs.ts';
import { fetchCheckpointHistory } from './checkpoint-history.ts';
import type { FetchedCheckpoint } from './checkpoint-pull.ts';
import { type ReadHead, readNewest } from './reader.ts';
import { fetchHistory } from './settings-history.ts';

interface OwnCheckpointDeps {
  readonly network: SwarmNetwork;
  readonly blobs: Pick<FileBlobStore, 'has' | 'path'>;
  readonly origins: Pick<BlobOrigins, 'has'>;
  readonly clock: Clock;
  readonly collector: Pick<BlobCollector, 'withScope'>;
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
    `the home ${home} has no invite for a job "${text}"${names === '' ? '' : `; it has invites for ${names}`}`,
    { home, job: text },
    {
      next: 'name the home of the node with --home, or give the invite of the job ("-" reads it from stdin)',
    },
  );
}

/** Returns the digest of the job that the node of a home joined with this invite; null if there is none. */
export async function joinedWith(home: string, target: JobTarget): Promise<string | null> {
  const { token, job } = resolveTarget(target);
  if (token === null) return null;
  const jobs = await readJoinedJobs(home);
  return (
    jobs.findLast((joined) => joined.token === token && (job === null || joined.job === job))?.job ?? null
  );
}

/** Folder in the home of a node for adapters that a command has asked for, or that the node evaluates. */
export const PULLED_FOLDER = 'pulled';

/** Deletes the adapters that a killed process did not delete. Called when the node starts. */
export function removePulled(home: string): Promise<void> {
  return rm(join(home, PULLED_FOLDER), { recursive: true, force: true });
}

/**
 * Fetches the newest checkpoint of a job over the network of the running node, because a second host with the node's
 * key would disturb the node's connections.
 * @returns the checkpoint; its weights are a copy, which the caller must move or delete
 * @throws SwarmError JOB_NOT_FOUND, CONNECT_FAILED, CHECKPOINT_UNTRUSTED, and refusals of the network and of admission
 */
export async function fetchOwnCheckpoint(
  { home, job: wanted }: { home: string; job: string },
  deps: OwnCheckpointDeps,
  signal: AbortSignal,
): Promise<FetchedCheckpoint> {
  const { network, clock } = deps;
  const { addresses, job, token } = await joinedJob(home, wanted);
  const target = { addresses, job, token };
  const newest = await readNewest({ network, target }, { clock }, signal);
  const { coordinator } = newest;
  const { checkpoint } = newest.head;
  await mkdir(join(home, PULLED_FOLDER), { recursive: true });
  const weights = join(home, PULLED_FOLDER, randomUUID());
  try {
    if (!(await copyOwn(newest, weights, deps))) await fetchInto(newest, weights, deps, signal);
    const past = await fetchCheckpointHistory(newest, (body) =>
      request({ network, clock }, coordinator, 'record', body, signal),
    );
    const history = await fetchHistory(newest, (body) =>
      request({ network, clock }, coordinator, 'settings', body, signal),
    );
    signal.throwIfAborted();
    return { job, ...history, ...past, checkpoint, weights };
  } catch (error) {
    await rm(weights, { force: true });
    throw error;
  }
}

/**
 * Copies the adapter from the store of the node to `weights`. Returns false if the coordinator did not supply the
 * node's copy: the coordinator chooses the digest, so it could name a secret blob of another coordinator.
 */
function copyOwn(
  { coordinator, head }: ReadHead,
  weights: string,
  { blobs, origins, collector }: OwnCheckpointDeps,
): Promise<boolean> {
  const { digest } = head.checkpoint.adapter;
  return collector.withScope(async (scope) => {
    await scope.hold(digest);
    if (!origins.has(digest, coordinator) || !(await blobs.has(digest))) return false;
    await copyFile(blobs.path(digest), weights);
    return true;
  });
}

/**
 * Fetches the adapter to `weights`, through a separate blob store, so that the coordinator cannot find out which blobs the
 * node has.
 */
async function fetchInto(
  { job, coordinator, head }: ReadHead,
  weights: string,
  { network, clock }: OwnCheckpointDeps,
  signal: AbortSignal,
): Promise<void> {
  const { adapter } = head.checkpoint;
  const holders = [coordinator, ...head.included.map(({ peer }) => peer)];
  const folder = `${weights}.partial`;
  try {
    const into = await FileBlobStore.open({ home: folder }, { clock });
    await fetchOrRecheck({ job, digest: adapter.digest, coordinator }, { network, clock }, signal, () =>
      network.fetchBlob(adapter, { holders, into, signal }),
    );
    await renameWithRetry(into.path(adapter.digest), weights);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
