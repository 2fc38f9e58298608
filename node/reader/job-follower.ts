import { mkdtemp, readdir, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { isSwarmError, messageOf } from '../../common/errors.ts';
import { isAlive } from '../../common/files/durable.ts';
import { makeFolder } from '../../common/files/folders.ts';
import type { Clock } from '../../common/time/clock.ts';
import { sleep } from '../../common/time/deadline.ts';
import { systemClock } from '../../common/time/system-clock.ts';
import type { JobTarget } from '../../protocol/access/invite.ts';
import { isNewer } from '../../protocol/job/head-order.ts';
import type { Head } from '../../protocol/messages.ts';
import { requireSameBase } from '../../registry/known-base.ts';
import { fetchOrRecheck, HOLDERS_FAILED } from '../blobs/recheck.ts';
import { request, verifyHead } from '../contact/requests.ts';
import { writePeftFolder } from './peft-folder.ts';
import { openReaderHost, type ReaderHost, type ReadHead, readNewest } from './reader.ts';

/**
 * Default time between two requests for the newest head, in milliseconds. A round usually takes longer, so
 * the follower rarely misses a checkpoint.
 */
const LOOK_MS = 5_000;
/**
 * Number of newest checkpoints that stay on disk. With two, the caller has at least the time between two requests to load
 * the newest checkpoint before its folder is deleted.
 */
const KEPT_CHECKPOINTS = 2;
/**
 * A follower's folder is deleted if no process has the follower's process id, and the folder's time is older than this
 * number of milliseconds. The process id alone is not enough, because containers that share the folder cannot see each
 * other's processes. A follower sets the time to now at each request and whenever a range of 1 MiB has arrived.
 */
const ABANDONED_MS = 5 * 60 * 1000;

/** The job to follow, and the folder for its checkpoints. */
export interface FollowOptions extends JobTarget {
  /** Folder in which each follower creates its own folder. Several processes may use the same folder. */
  readonly folder: string;
  /** The base that the checkpoints are used with. Messages name its folder. */
  readonly base: { readonly digest: string; readonly dir: string };
  /** Folder of the key with which this machine reads jobs. @default as for `pullCheckpoint` */
  readonly keyFolder?: string;
  /** Version of this program that other peers see. @default the package's version */
  readonly version?: string;
  /** Milliseconds between two requests for the newest head. @default 5,000 */
  readonly lookMs?: number;
  readonly signal: AbortSignal;
}

/** A checkpoint on this machine. */
export interface FollowedCheckpoint {
  /** Digest of the signed checkpoint. */
  readonly digest: string;
  readonly round: number;
  /** PEFT folder. */
  readonly folder: string;
}

/**
 * `checkpoint`: a new checkpoint is on disk. `waiting`: the follower cannot look for newer checkpoints now; `reason` says
 * why. `reached`: the follower can look for newer checkpoints again.
 */
export type FollowEvent =
  | { readonly type: 'checkpoint'; readonly checkpoint: FollowedCheckpoint }
  | { readonly type: 'waiting'; readonly reason: string }
  | { readonly type: 'reached' };

export interface FollowDeps {
  /** Called once for each new checkpoint, and whenever the reason for waiting changes or ends. */
  readonly onEvent: (event: FollowEvent) => void;
  /** @default systemClock */
  readonly clock?: Clock;
}

/**
 * Follows a job over the network: fetches each new checkpoint as a PEFT folder. While the coordinator does not answer,
 * the last checkpoint stays the newest one.
 */
export class JobFollower {
  readonly #options: FollowOptions;
  readonly #onEvent: FollowDeps['onEvent'];
  readonly #clock: Clock;
  readonly #home: string;
  readonly #host: ReaderHost;
  readonly #closing = new AbortController();
  readonly #signal: AbortSignal;
  readonly #lookMs: number;
  /** The job as the coordinator described it last; null if the follower must connect again. */
  #read: ReadHead | null = null;
  #head: Head | null = null;
  /** Checkpoints on disk, newest first. */
  #kept: FollowedCheckpoint[] = [];
  /** Name and digest of the job; null before the first answer of the coordinator. */
  #job: { name: string; digest: string } | null = null;
  /** Digest of the adapter whose fetch has begun, but has not completed; null if there is no such fetch. */
  #unfinished: string | null = null;
  #reason: string | null = null;
  #looking: Promise<void> = Promise.resolve();

  private constructor(options: FollowOptions, deps: FollowDeps, own: { home: string; host: ReaderHost }) {
    this.#options = options;
    this.#onEvent = deps.onEvent;
    this.#clock = deps.clock ?? systemClock;
    this.#home = own.home;
    this.#host = own.host;
    this.#lookMs = options.lookMs ?? LOOK_MS;
    this.#signal = AbortSignal.any([options.signal, this.#closing.signal]);
  }

  /**
   * Fetches the newest checkpoint, and begins to follow the job. Waits while the coordinator does not answer.
   * @throws SwarmError INVITE_INVALID, NO_ADDRESS, FOLDER_UNUSABLE, JOB_NOT_FOUND, CHECKPOINT_UNTRUSTED, ADAPTER_BASE,
   *   STORE_FULL, and refusals of admission
   */
  static async open(options: FollowOptions, deps: FollowDeps): Promise<JobFollower> {
    const { folder } = options;
    const clock = deps.clock ?? systemClock;
    await makeFolder(folder);
    await removeAbandoned(folder, clock.now());
    const home = await mkdtemp(join(folder, `${process.pid}-`));
    let host: ReaderHost | null = null;
    try {
      host = await openReaderHost({ ...options, home }, { clock });
      const follower = new JobFollower(options, deps, { home, host });
      await follower.#first();
      follower.#looking = follower.#follow();
      return follower;
    } catch (error) {
      await host?.network.stop();
      await rm(home, { recursive: true, force: true });
      throw error;
    }
  }

  /** Name of the job. */
  get name(): string {
    return this.#job!.name;
  }

  /** Checkpoints on this machine, newest first. There is at least one. */
  get checkpoints(): readonly FollowedCheckpoint[] {
    return this.#kept;
  }

  /** Stops following, and deletes the checkpoints. Idempotent. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#looking;
    await this.#host.network.stop();
    await rm(this.#home, { recursive: true, force: true });
  }

  /** Asks the coordinator until the first checkpoint is on disk. @throws errors that later attempts would meet again */
  async #first(): Promise<void> {
    for (;;) {
      try {
        return await this.#look();
      } catch (error) {
        this.#signal.throwIfAborted();
        if (!isTransient(error)) throw error;
        this.#waitFor(error);
      }
      await sleep(this.#clock, this.#lookMs, this.#signal);
    }
  }

  /** Asks the coordinator for newer checkpoints until the follower is closed. Never rejects. */
  async #follow(): Promise<void> {
    while (!this.#signal.aborted) {
      try {
        await sleep(this.#clock, this.#lookMs, this.#signal);
        await this.#look();
      } catch (error) {
        if (!this.#signal.aborted) this.#waitFor(error);
      }
    }
  }

  #waitFor(error: unknown): void {
    this.#read = null;
    const reason = messageOf(error);
    if (reason === this.#reason) return;
    this.#reason = reason;
    this.#onEvent({ type: 'waiting', reason });
  }

  /** Asks for the newest head, and fetches the head's checkpoint if the checkpoint is new. */
  async #look(): Promise<void> {
    await this.#touch();
    const { coordinator, job, manifest } = await this.#newest();
    const head = this.#head!;
    const { digest, round, adapter } = head.checkpoint;
    if (digest !== this.#kept[0]?.digest) {
      const { network, blobs } = this.#host;
      if (this.#unfinished !== adapter.digest) await this.#discardUnfinished();
      this.#unfinished = adapter.digest;
      const deps = { network, clock: this.#clock };
      await fetchOrRecheck({ job, digest: adapter.digest, coordinator }, deps, this.#signal, () =>
        network.fetchBlob(adapter, {
          holders: [coordinator, ...head.included.map(({ peer }) => peer)],
          signal: this.#signal,
          // The time of the folder cannot be set if the folder was deleted. The fetch then fails with its own error.
          onProgress: () => void this.#touch().catch(() => {}),
        }),
      );
      const folder = join(this.#home, digest);
      await writePeftFolder(folder, blobs.path(adapter.digest), manifest);
      await this.#discardUnfinished();
      const checkpoint = { digest, round, folder };
      this.#kept.unshift(checkpoint);
      this.#onEvent({ type: 'checkpoint', checkpoint });
      for (const old of this.#kept.splice(KEPT_CHECKPOINTS))
        await rm(old.folder, { recursive: true, force: true });
    }
    if (this.#reason === null) return;
    this.#reason = null;
    this.#onEvent({ type: 'reached' });
  }

  /** Sets the time of the folder to now. This shows other processes that the follower runs. */
  #touch(): Promise<void> {
    const now = new Date(this.#clock.now());
    return utimes(this.#home, now, now);
  }

  /** Sets `#head` to the newest head. Returns the facts of the job that do not change, such as its manifest. */
  async #newest(): Promise<ReadHead> {
    const { network, target } = this.#host;
    const deps = { network, clock: this.#clock };
    let read = this.#read;
    if (read === null) {
      const job = this.#job?.digest ?? target.job;
      read = await readNewest({ ...this.#host, target: { ...target, job } }, deps, this.#signal);
      const { name, base } = read.manifest;
      const label = `the adapter of job ${name}`;
      const { digest, dir } = this.#options.base;
      requireSameBase({ label, manifest: { base } }, { digest, where: dir });
      this.#job = { name, digest: read.job };
      this.#read = read;
      if (isNewer(read.head, this.#head)) this.#head = read.head;
      return read;
    }
    // Leave out the position of the known head. With the position, a coordinator that was restored from an
    // old backup would ask this process for the records that the backup lacks.
    const answer = await request(deps, read.coordinator, 'head', { job: read.job }, this.#signal);
    const head = answer.head && verifyHead(answer.head, read);
    if (head !== null && isNewer(head, this.#head)) this.#head = head;
    return read;
  }

  /** Deletes the blob of the adapter that was fetched last, or the part of it that has arrived. */
  async #discardUnfinished(): Promise<void> {
    if (this.#unfinished !== null) await this.#host.blobs.delete(this.#unfinished);
    this.#unfinished = null;
  }
}

/** Returns whether a later attempt can succeed without a change of the invite, the job or the disk. */
function isTransient(error: unknown): boolean {
  return isSwarmError(error) && (error.kind === 'timeout' || HOLDERS_FAILED.has(error.code));
}

/** Deletes the folders of followers that were killed. */
async function removeAbandoned(folder: string, now: number): Promise<void> {
  for (const name of await readdir(folder)) {
    const path = join(folder, name);
    if (isAlive(Number(name.split('-')[0]))) continue;
    // Skip a folder that another process has deleted since this process read the list.
    const entry = await stat(path).catch(() => null);
    if (entry !== null && now - entry.mtimeMs > ABANDONED_MS)
      await rm(path, { recursive: true, force: true });
  }
}
