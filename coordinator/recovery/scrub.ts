import type { Clock } from '../../common/clock.ts';
import { sleep } from '../../common/deadline.ts';
import type { Logger } from '../../common/logger.ts';
import type { BlobStore } from '../../storage/blobs.ts';
import type { JobRun } from '../job-run.ts';
import { isOver } from '../round/job-phase.ts';
import type { Store } from '../store/store.ts';
import type { BlobRepair } from './blob-repair.ts';

/** Pause after a portion of PORTION_BYTES or less. It is longer after a larger portion, in proportion to its bytes. */
const PORTION_PAUSE_MS = 60_000;
/** Number of bytes after which a portion ends. The scrub therefore reads at most about 1 MiB/s on average. */
const PORTION_BYTES = 64 * 1024 * 1024;
/** Maximum number of blobs in one portion. */
const PORTION_BLOBS = 200;
/** Pause after each MiB that is hashed, so that rounds and requests go first. */
const MIB_PAUSE_MS = 10;

interface Deps {
  readonly store: Store;
  readonly blobs: BlobStore;
  readonly repair: BlobRepair;
  readonly clock: Clock;
  readonly log: Logger;
  readonly runs: ReadonlyMap<string, JobRun>;
  readonly signal: AbortSignal;
}

/**
 * Finds damaged blobs before they are needed, and repairs them. At the start, checks the newest adapter of each open job
 * and the sizes of its base files and data. After that, reads all blobs of all jobs again and again at low priority.
 */
export class Scrub {
  readonly #deps: Deps;
  /** Digest of the last blob that was checked. */
  #cursor = '';
  readonly #checking = new Map<string, Promise<boolean>>();

  constructor(deps: Deps) {
    this.#deps = deps;
  }

  /** Runs until the signal aborts. Never rejects. */
  async run(): Promise<void> {
    const { clock, signal, log } = this.#deps;
    while (!signal.aborted) {
      const portion = this.#cursor === '' ? this.#checkNewest().then(() => this.#next()) : this.#next();
      const bytes = await portion.catch((error: unknown) => {
        if (!signal.aborted) log.warn({ error }, 'scrub-failed');
        return 0;
      });
      // A blob is read in one go, so a portion with a file of the base can have gigabytes.
      const pause = PORTION_PAUSE_MS * Math.max(1, bytes / PORTION_BYTES);
      // If the signal aborts, the wait and the loop end.
      await sleep(clock, pause, signal).catch(() => {});
    }
  }

  /** Checks one blob, and repairs it if it is damaged. @returns whether the store has the whole blob */
  check(digest: string): Promise<boolean> {
    const running = this.#checking.get(digest);
    if (running !== undefined) return running;
    const check = this.#check(digest).finally(() => this.#checking.delete(digest));
    this.#checking.set(digest, check);
    return check;
  }

  async #check(digest: string): Promise<boolean> {
    const { blobs, store, repair, clock, signal } = this.#deps;
    const pause = (): Promise<void> => sleep(clock, MIB_PAUSE_MS, signal);
    const size = repair.sizeOf(digest);
    // A wrong size shows the damage without reading the blob.
    const isCut = size !== null && (await blobs.size(digest)) !== size;
    if (!isCut && (await blobs.check(digest, { signal, pause })) === 'whole') return true;
    // The garbage collection may have deleted the blob meanwhile.
    return store.blobs.needs(digest) ? repair.repair(digest) : true;
  }

  /** Checks the newest adapter, checkpoint body and residual of each job, and the file sizes of its base and data. */
  async #checkNewest(): Promise<void> {
    const { runs, blobs, repair } = this.#deps;
    for (const { context, record, driver } of runs.values()) {
      if (isOver(driver.state)) continue;
      const { checkpoint, digest, residual } = record.checkpoint;
      for (const one of [checkpoint.adapter.digest, digest, residual]) {
        if (one !== null) await this.check(one);
      }
      const { base, data } = context.manifest;
      for (const file of [...base.files, ...data.shards]) {
        if ((await blobs.size(file.digest)) !== file.size) await repair.repair(file.digest);
      }
    }
  }

  /** Checks the next portion of blobs. Returns the bytes of these blobs. */
  async #next(): Promise<number> {
    const { store, blobs } = this.#deps;
    let bytes = 0;
    for (let count = 0; count < PORTION_BLOBS && bytes < PORTION_BYTES; count++) {
      const digest = store.blobs.nextUsed(this.#cursor);
      this.#cursor = digest ?? '';
      if (digest === null) break;
      bytes += (await blobs.size(digest)) ?? 0;
      await this.check(digest);
    }
    return bytes;
  }
}
