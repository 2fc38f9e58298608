import { resolveHomes } from '../../common/files/user-folders.ts';
import { packageVersion } from '../../common/package.ts';
import type { Clock } from '../../common/time/clock.ts';
import { silentLogger } from '../../monitor/logs/log.ts';
import { createHost } from '../../net/host.ts';
import { loadIdentity } from '../../net/identity.ts';
import type { SwarmNetwork } from '../../net/network.ts';
import { type Invite, type JobTarget, resolveTarget } from '../../protocol/access/invite.ts';
import type { Manifest } from '../../protocol/job/manifest.ts';
import type { Head } from '../../protocol/messages.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import { FileBlobStore } from '../../storage/blob-store.ts';
import { connect, request } from '../contact/requests.ts';
import { nodeError } from '../errors.ts';

/** The job that a reader reads, and the folders for its files. */
export interface ReaderOptions extends JobTarget {
  /** Folder for blobs. If no invite token is given, the call makes a new key and stores it in this folder too. */
  readonly home: string;
  /**
   * Folder of the key with which this machine reads jobs. The key stays the same, so that a personal invite counts this
   * machine only once. Ignored if no invite token is given, because each call then makes a new key.
   * @default SWARM_HOME/reader, else lora-swarm/reader in the user's data folder
   */
  readonly keyFolder?: string;
  /** Home of a stopped node. If given, the key of that node is used, even without an invite token. @default none */
  readonly nodeHome?: string | undefined;
  /** Version of this program that other peers see. @default the package's version */
  readonly version?: string;
  readonly signal: AbortSignal;
}

/** The network with which this machine reads a job, and the blobs that it has fetched. */
export interface ReaderHost {
  readonly network: SwarmNetwork;
  readonly blobs: FileBlobStore;
  /** Addresses of the coordinator, and the job and the token if they are known. */
  readonly target: Invite;
}

/** The manifest and the newest head of a job, which the coordinator has signed. */
export interface ReadHead {
  /** Peer id of the coordinator, which has signed manifest and head. */
  readonly coordinator: string;
  readonly job: string;
  readonly manifest: Manifest;
  readonly signedManifest: Uint8Array;
  readonly head: Head;
  readonly signedHead: Uint8Array;
}

/** A connection to the coordinator of a job, for a peer that reads the job without joining it. */
export interface JobReader extends ReadHead, Pick<ReaderHost, 'network' | 'blobs'> {}

/**
 * Starts a network host that connects to no peer yet. The caller must stop the host's network.
 * @throws SwarmError INVITE_INVALID, NO_ADDRESS, FOLDER_UNUSABLE
 */
export async function openReaderHost(
  options: Omit<ReaderOptions, 'signal'>,
  { clock }: { clock: Clock },
): Promise<ReaderHost> {
  const { home, version = packageVersion() } = options;
  const target = resolveTarget(options);
  if (target.addresses.length === 0) {
    throw nodeError(
      'NO_ADDRESS',
      'no address of a coordinator was given',
      {},
      { kind: 'usage', next: 'give an invite, or the addresses of the coordinator' },
    );
  }
  const blobs = await FileBlobStore.open({ home }, { clock });
  // Without an invite token, the coordinator need not recognise this machine, so each call has a new key.
  const ownKey = target.token === null ? home : (options.keyFolder ?? resolveHomes().reader);
  const identity = await loadIdentity(options.nodeHome ?? ownKey);
  const network = await createHost(
    { listen: [], bootstrap: [], mdns: [], home, agent: `lora-swarm/${version}` },
    { identity, blobs, log: silentLogger, clock },
  );
  return { network, blobs, target };
}

/**
 * Connects to the coordinator of a job, verifies manifest and newest head, and runs `work`.
 * @throws SwarmError INVITE_INVALID, NO_ADDRESS, CONNECT_FAILED, JOB_NOT_FOUND, CHECKPOINT_UNTRUSTED, and refusals of
 *   the network and of admission
 */
export async function withReader<T>(
  options: ReaderOptions,
  { clock }: { clock: Clock },
  work: (reader: JobReader) => Promise<T>,
): Promise<T> {
  const host = await openReaderHost(options, { clock });
  const { network, blobs } = host;
  try {
    return await work({ network, blobs, ...(await readNewest(host, { clock }, options.signal)) });
  } finally {
    await network.stop();
  }
}

/**
 * Connects to the coordinator, asks for the job's manifest and newest head, and verifies that this coordinator signed
 * both.
 * @throws SwarmError CONNECT_FAILED, JOB_NOT_FOUND, CHECKPOINT_UNTRUSTED, and refusals of the network and of admission
 */
export async function readNewest(
  { network, target }: Pick<ReaderHost, 'network' | 'target'>,
  { clock }: { clock: Clock },
  signal: AbortSignal,
): Promise<ReadHead> {
  const deps = { network, clock };
  const { addresses, job: wanted, token } = target;
  const coordinator = await connect(addresses, deps, signal);
  const { jobs } = await request(deps, coordinator, 'jobs', { invite: token }, signal);
  const job = wanted ?? (jobs.length === 1 ? jobs[0]!.job : null);
  if (job === null) {
    const names = jobs.map((j) => `${j.name} ${j.job}`).join(', ');
    throw nodeError(
      'JOB_NOT_FOUND',
      `no job was named, and the coordinator has ${jobs.length} jobs`,
      { jobs },
      {
        next:
          jobs.length === 0
            ? "ask the coordinator's operator whether a job is running, and for an invite to it"
            : `choose one with --job: ${names}`,
      },
    );
  }
  const answer = await request(deps, coordinator, 'manifest', { job, invite: token }, signal);
  const manifest = verifyMessage('manifest', answer.manifest);
  const head = answer.head === null ? null : verifyMessage('head', answer.head);
  const trusted =
    manifest.digest === job &&
    manifest.author === coordinator &&
    head?.author === coordinator &&
    head.message.job === job;
  if (head === null || !trusted) {
    throw nodeError(
      'CHECKPOINT_UNTRUSTED',
      head === null
        ? 'the job has no checkpoint yet'
        : `the coordinator ${coordinator} answered with messages that it did not sign for this job`,
      { job, coordinator },
      { next: head === null ? 'try again later' : 'check the invite with the person who gave it to you' },
    );
  }
  return {
    coordinator,
    job,
    manifest: manifest.message,
    signedManifest: answer.manifest,
    head: head.message,
    signedHead: answer.head!,
  };
}
