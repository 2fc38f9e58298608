import { isSwarmError, messageOf } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import type { Clock } from '../../common/time/clock.ts';
import type { SwarmNetwork } from '../../net/network.ts';
import type { JobEventBody } from '../../protocol/api/job-events.ts';
import { sha256 } from '../../protocol/cbor.ts';
import { transferMs } from '../../protocol/requests/rpc.ts';
import type { BlobStore } from '../../storage/blobs.ts';
import { getRepaired } from '../../storage/lost-blobs.ts';
import type { JobRun } from '../job-run.ts';
import type { Store } from '../store/store.ts';
import { type BlobPurpose, purposeOf } from './blob-purpose.ts';
import { fetchInTurns, HOLDERS, inTurns, TURN_MS } from './fetch-in-turns.ts';

/**
 * Pause after a failed repair of a blob, in milliseconds. The pause ends when another member connects, because it may have the
 * blob.
 */
const RETRY_MS = 60_000;

interface Deps {
  readonly store: Store;
  readonly blobs: BlobStore;
  readonly network: SwarmNetwork;
  readonly clock: Clock;
  readonly log: Logger;
  readonly runs: ReadonlyMap<string, JobRun>;
  readonly signal: AbortSignal;
}

/**
 * Repairs missing and damaged blobs of jobs. Rebuilds an adapter from its parent and its delta, and a checkpoint's body
 * from its signed record. If that is not possible, fetches the blob from a node that has it. Reports damage and repair
 * as events of the jobs that need the blob.
 */
export class BlobRepair {
  readonly #deps: Deps;
  readonly #running = new Map<string, Promise<boolean>>();
  /**
   * The last failed attempt for each damaged blob. `at`: its end on the monotonic clock. `asked`: members connected then.
   * `times`: number of failed attempts in a row.
   */
  readonly #failed = new Map<
    string,
    { readonly at: number; readonly asked: ReadonlySet<string>; readonly times: number }
  >();

  constructor(deps: Deps) {
    this.#deps = deps;
  }

  /** Returns a description of each blob that is damaged and could not be repaired. */
  get damaged(): string[] {
    return [...this.#failed.keys()].flatMap((digest) => {
      const [purpose] = this.#purposes(digest);
      return purpose === undefined ? [] : [describe(purpose)];
    });
  }

  /** Returns the size that a blob must have, in bytes; null if no record contains the size. */
  sizeOf(digest: string): number | null {
    return this.#purposes(digest).find(({ size }) => size !== null)?.size ?? null;
  }

  /**
   * Repairs a blob that is missing or damaged. After a failed attempt, the next one begins when another
   * member has connected, or else a minute later at the earliest.
   * @returns whether the store now has the whole blob
   */
  repair(digest: string): Promise<boolean> {
    const running = this.#running.get(digest);
    if (running !== undefined) return running;
    const failed = this.#failed.get(digest);
    if (failed !== undefined && this.#deps.clock.monotonic() - failed.at < RETRY_MS) {
      const members = this.#purposes(digest).flatMap(({ run }) => this.#connected(run));
      if (members.every((peer) => failed.asked.has(peer))) return Promise.resolve(false);
    }
    const run = this.#repair(digest).finally(() => this.#running.delete(digest));
    this.#running.set(digest, run);
    return run;
  }

  async #repair(digest: string): Promise<boolean> {
    const purposes = this.#purposes(digest);
    if (purposes.length === 0) return false;
    if (!this.#failed.has(digest)) this.#report(purposes, { type: 'blob-damaged', digest });
    const reasons: string[] = [];
    const asked = new Set(purposes.flatMap(({ run }) => this.#connected(run)));
    for (const purpose of purposes) {
      for (const how of ['rebuilt', 'fetched'] as const) {
        try {
          const done =
            how === 'rebuilt' ? await this.#rebuild(digest, purpose) : await this.#fetch(digest, purpose);
          if (!done) continue;
          this.#failed.delete(digest);
          await this.#writeFolders(purposes);
          this.#report(purposes, { type: 'blob-repaired', digest, how });
          return true;
        } catch (error) {
          this.#deps.signal.throwIfAborted();
          if (!isSwarmError(error)) throw error;
          reasons.push(messageOf(error));
        }
      }
    }
    const times = (this.#failed.get(digest)?.times ?? 0) + 1;
    this.#failed.set(digest, { at: this.#deps.clock.monotonic(), asked, times });
    const what = describe(purposes[0]!);
    this.#deps.log.error({ digest, what, reasons }, 'blob-not-repaired');
    return false;
  }

  /** Writes the folders of checkpoints again, because their hard links still lead to the damaged file. */
  async #writeFolders(purposes: readonly BlobPurpose[]): Promise<void> {
    for (const { run, folder } of purposes) {
      if (folder !== undefined) await run.context.deps.folders.write(folder);
    }
  }

  async #rebuild(digest: string, { rebuild }: BlobPurpose): Promise<boolean> {
    if (rebuild === undefined) return false;
    const { blobs } = this.#deps;
    const bytes = await rebuild({ get: (other, options) => getRepaired(other, options, blobs, this) });
    if (sha256(bytes) !== digest) return false;
    await blobs.delete(digest);
    await blobs.put(bytes, digest);
    return true;
  }

  async #fetch(digest: string, { run, size, author }: BlobPurpose): Promise<boolean> {
    const { network, signal } = this.#deps;
    if (size === null) return false;
    const holders = inTurns(this.#connected(run), (peer) => network.networkOf(peer));
    holders.sort((a, b) => Number(b === author) - Number(a === author));
    if (holders.length === 0) return false;
    // The first group may have used up all the time of the previous attempt.
    const first = ((this.#failed.get(digest)?.times ?? 0) * HOLDERS) % holders.length;
    const order = [...holders.slice(first), ...holders.slice(0, first)];
    const options = { holders: order, again: true, totalMs: 2 * transferMs(size) + TURN_MS, signal };
    await fetchInTurns({ digest, size }, options, this.#deps);
    return true;
  }

  /** Returns the connected members of a job. */
  #connected({ members }: JobRun): string[] {
    return this.#deps.network.peers().flatMap(({ peer }) => (members.list.has(peer) ? peer : []));
  }

  #purposes(digest: string): BlobPurpose[] {
    const { store, runs } = this.#deps;
    return store.blobs.usesOf(digest).flatMap((use) => {
      const run = runs.get(use.job);
      return (run && purposeOf(digest, use, run)) ?? [];
    });
  }

  /** Records an event in each job that uses the blob, once per job. */
  #report(
    purposes: readonly BlobPurpose[],
    event: { type: 'blob-damaged'; digest: string } | { type: 'blob-repaired'; digest: string; how: Repair },
  ): void {
    for (const run of new Set(purposes.map((purpose) => purpose.run))) {
      const { what, name } = purposes.find((purpose) => purpose.run === run)!;
      const body: JobEventBody = { ...event, what, name };
      run.driver.transact((outbox) => outbox.event(body));
    }
  }
}

type Repair = 'rebuilt' | 'fetched';

/** Returns a description such as "the adapter (round 5) of job moby". */
function describe({ what, name, run }: BlobPurpose): string {
  return `the ${what} (${name}) of job ${run.context.manifest.name}`;
}
