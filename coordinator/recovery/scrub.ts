import type { Logger } from '../../common/logger.ts';
import type { Clock } from '../../common/time/clock.ts';
import { BlobScrub, slowly } from '../../storage/blob-scrub.ts';
import type { BlobStore } from '../../storage/blobs.ts';
import type { JobRun } from '../job-run.ts';
import { isOver } from '../round/job-phase.ts';
import type { Store } from '../store/store.ts';
import type { BlobRepair } from './blob-repair.ts';

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
 * Finds damaged blobs before they are needed, and repairs them. At the start, checks the newest adapter of each open
 * job and the sizes of its base files and data. After that, reads all blobs of all jobs repeatedly at low priority.
 */
export class Scrub {
  readonly #deps: Deps;
  readonly #passes: BlobScrub;
  readonly #checking = new Map<string, Promise<boolean>>();

  constructor(deps: Deps) {
    this.#deps = deps;
    this.#passes = new BlobScrub(
      {
        next: (after) => deps.store.blobs.nextUsed(after),
        check: (digest) => this.check(digest),
        beforePass: () => this.#checkNewest(),
      },
      deps,
    );
  }

  /** Runs until the signal aborts. Never rejects. */
  run(): Promise<void> {
    return this.#passes.run();
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
    const { blobs, store, repair, signal } = this.#deps;
    const pause = slowly(this.#deps);
    const size = repair.sizeOf(digest);
    // A blob with a wrong size is damaged, so it need not be read.
    const isCut = size !== null && (await blobs.size(digest)) !== size;
    if (!isCut && (await blobs.check(digest, { signal, pause })) === 'whole') return true;
    // Repair the blob only if it is still needed, because the garbage collection may have deleted it
    // meanwhile.
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
}
