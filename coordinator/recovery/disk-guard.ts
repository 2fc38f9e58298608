import { randomBytes } from 'node:crypto';
import { rmSync, statfsSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { writeDurably } from '../../common/files/durable.ts';
import { freeBytesOf } from '../../common/files/file-system.ts';
import type { Logger } from '../../common/logger.ts';
import { formatBytes } from '../../common/text.ts';
import type { Clock } from '../../common/time/clock.ts';
import type { JobRun } from '../job-run.ts';
import { isOver } from '../round/job-phase.ts';

const MIB = 1024 * 1024;
/** Free space below which the jobs pause. A round of a small job writes a few MiB. */
export const PAUSE_BELOW_BYTES = 64 * MIB;
/** Free space from which paused jobs continue. It exceeds PAUSE_BELOW_BYTES, so that the next round has space. */
export const RESUME_FROM_BYTES = 128 * MIB;
/** Free disk space, in bytes, that blobs must leave for the database. */
export const BLOB_FLOOR_BYTES = 24 * MIB;
/** Size of the reserve file. It is deleted when the disk is full, so that the database has space to record the pause. */
const RESERVE_BYTES = 16 * MIB;
/** Minimum free space for a transaction. If less is free, the reserve file is deleted first. */
const TRANSACTION_BYTES = 8 * MIB;
/** Time between two checks of the free space. */
const LOOK_MS = 2_000;

interface Deps {
  readonly jobs: () => readonly JobRun[];
  readonly clock: Clock;
  readonly log: Logger;
  /** @default freeBytesOf */
  readonly freeBytes?: (folder: string) => Promise<number>;
}

/**
 * Pauses the jobs of a coordinator while its disk is almost full, and continues them when there is space again. Keeps a
 * reserve file, whose space is freed for the database if another program fills the disk completely.
 */
export class DiskGuard {
  readonly #home: string;
  readonly #reserve: string;
  readonly #deps: Deps;
  #hasReserve = false;
  #cancel = (): void => {};
  #isStopped = false;

  constructor({ home }: { home: string }, deps: Deps) {
    this.#home = home;
    this.#reserve = join(home, 'reserve');
    this.#deps = deps;
  }

  /** Checks the free space now, and then every two seconds. Never rejects. */
  async start(): Promise<void> {
    const { clock, log } = this.#deps;
    await this.look().catch((error: unknown) => log.warn({ error }, 'disk-not-watched'));
    if (!this.#isStopped) this.#cancel = clock.after(LOOK_MS, () => void this.start());
  }

  stop(): void {
    this.#isStopped = true;
    this.#cancel();
  }

  /** Frees the reserve if the disk has too little space for a transaction. Call it before each transaction. */
  beforeTransaction(): void {
    if (!this.#hasReserve) return;
    try {
      const { bavail, bsize } = statfsSync(this.#home);
      if (bavail * bsize < TRANSACTION_BYTES) this.#freeReserve();
    } catch {
      // Keep the reserve if the file system does not report its free space. A transaction then fails if there
      // is no space.
    }
  }

  /** Reads the free space of the disk, and pauses or continues jobs accordingly. */
  async look(): Promise<void> {
    const { freeBytes = freeBytesOf, log } = this.#deps;
    const free = await freeBytes(this.#home);
    // Skip jobs that wait for their nodes after a restart. A check after this wait pauses or continues them.
    const jobs = this.#deps.jobs().filter(({ driver }) => !driver.isHeld);
    if (free < PAUSE_BELOW_BYTES) {
      if (free < TRANSACTION_BYTES) this.#freeReserve();
      const reason = `the disk of the coordinator is full: ${formatBytes(free)} are free, and the jobs continue automatically when ${formatBytes(RESUME_FROM_BYTES)} are free`;
      for (const run of jobs) {
        const { phase, ending } = run.driver.state;
        if (isOver(run.driver.state) || phase === 'paused' || phase === 'queued' || ending !== null) continue;
        log.error({ job: run.context.manifest.name, free }, 'disk-full');
        run.driver.dispatch({ type: 'pause', reason, cause: 'disk-full' });
      }
      return;
    }
    if (free < RESUME_FROM_BYTES) return;
    await this.#keepReserve();
    for (const run of jobs) {
      if (run.driver.state.pauseCause !== 'disk-full') continue;
      log.info({ job: run.context.manifest.name, free }, 'disk-has-space');
      run.operate({ type: 'resume' });
    }
  }

  #freeReserve(): void {
    this.#hasReserve = false;
    rmSync(this.#reserve, { force: true });
  }

  /**
   * Writes the reserve file if it is missing. Fills it with random bytes, so that it takes its full space
   * even on a file system that compresses files.
   */
  async #keepReserve(): Promise<void> {
    if (this.#hasReserve) return;
    const size = await stat(this.#reserve).then(
      (entry) => entry.size,
      () => 0,
    );
    if (size !== RESERVE_BYTES) await writeDurably(this.#reserve, randomBytes(RESERVE_BYTES));
    this.#hasReserve = true;
  }
}
