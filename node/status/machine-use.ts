import { messageOf } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import type { Clock } from '../../common/time/clock.ts';
import type { NodeCost, Traffic } from '../../protocol/api/node.ts';
import { folderBytes } from '../../storage/folder-size.ts';
import type { Totals } from '../store/totals.ts';
import type { TrainingProcess } from '../trainer/training-process.ts';

/** Interval between two readings of processor time and traffic. The processor time is an average over this interval. */
const SAMPLE_MS = 5_000;
/**
 * Number of readings over which the speed of the traffic is averaged: 30 s. With a bandwidth limit of 100 kB/s, a piece
 * of a download arrives every 10 s, so an average over one interval would jump between zero and twice the limit.
 */
const SPEED_SAMPLES = 6;
/**
 * Maximum share of its time that the daemon spends on reading the size of its home. The daemon therefore reads a home with
 * very many files less often.
 */
const DISK_SHARE = 0.05;
/** Interval at which the traffic is stored, in milliseconds. A crash loses the traffic of about one interval at most. */
const STORE_MS = 60_000;

interface MachineUseDeps {
  readonly clock: Clock;
  readonly log: Logger;
  readonly totals: Totals;
  readonly traffic: () => Traffic;
  readonly trainer: Pick<TrainingProcess, 'use' | 'queue'>;
}

/**
 * One reading of the processor time, memory and traffic of the daemon and its trainer. Times are on the monotonic
 * clock, in milliseconds.
 */
interface Sample {
  readonly at: number;
  readonly daemonCpu: number;
  readonly trainer: TrainingProcess['use'];
  /** Whether the trainer has no work. If so, its newest report contains all of its processor time. */
  readonly isIdle: boolean;
  readonly traffic: Traffic;
}

const NO_TRAFFIC: Traffic = { sent: 0, received: 0 };

/** Measures what the node costs its machine: processor, memory, disk space and traffic. */
export class MachineUse {
  readonly #home: string;
  readonly #deps: MachineUseDeps;
  #last: Sample;
  #daemonThreads = 0;
  #trainerThreads = 0;
  #speed = NO_TRAFFIC;
  /** The newest readings of the traffic, oldest first. */
  #traffic: Pick<Sample, 'at' | 'traffic'>[] = [];
  #disk: number | null = null;
  /** Time of the next reading of the disk space, on the monotonic clock; Infinity during a reading. */
  #diskDueAt = 0;
  /** Traffic of this process that is stored already. */
  #stored = NO_TRAFFIC;
  #storedAt = Number.NEGATIVE_INFINITY;
  #cancel = (): void => {};

  constructor({ home }: { home: string }, deps: MachineUseDeps) {
    this.#home = home;
    this.#deps = deps;
    this.#last = this.#sample();
  }

  start(): void {
    this.#cancel = this.#deps.clock.after(SAMPLE_MS, () => this.start());
    this.#measure();
    const now = this.#deps.clock.monotonic();
    if (now >= this.#diskDueAt) void this.#readDisk(now);
    if (now - this.#storedAt < STORE_MS) return;
    this.#storedAt = now;
    this.#storeTraffic();
  }

  async #readDisk(start: number): Promise<void> {
    this.#diskDueAt = Number.POSITIVE_INFINITY;
    this.#disk = await folderBytes(this.#home);
    const end = this.#deps.clock.monotonic();
    this.#diskDueAt = end + (end - start) / DISK_SHARE;
  }

  /** Stores the traffic that is not stored yet. The caller must call this before it closes the database. */
  stop(): void {
    this.#cancel();
    this.#storeTraffic();
  }

  cost(): NodeCost {
    const { trainer, traffic, totals } = this.#deps;
    const month = this.#month();
    const before = totals.traffic(month);
    const unsaved = difference(traffic(), this.#stored);
    return {
      cpuThreads: this.#daemonThreads + this.#trainerThreads,
      memoryBytes: process.memoryUsage.rss() + (trainer.use?.residentBytes ?? 0),
      diskBytes: this.#disk,
      bytesPerSecond: this.#speed,
      month: { month, sent: before.sent + unsaved.sent, received: before.received + unsaved.received },
    };
  }

  #sample(): Sample {
    const { clock, trainer, traffic } = this.#deps;
    const { user, system } = process.cpuUsage();
    return {
      at: clock.monotonic(),
      daemonCpu: (user + system) / 1e6,
      trainer: trainer.use,
      isIdle: trainer.queue === 0,
      traffic: traffic(),
    };
  }

  #measure(): void {
    const before = this.#last;
    const now = this.#sample();
    const seconds = (now.at - before.at) / 1000;
    if (seconds <= 0) return;
    this.#last = now;
    this.#daemonThreads = (now.daemonCpu - before.daemonCpu) / seconds;
    this.#traffic = [...this.#traffic, before].slice(-SPEED_SAMPLES);
    const [oldest] = this.#traffic as [Sample];
    const { sent, received } = difference(now.traffic, oldest.traffic);
    const period = (now.at - oldest.at) / 1000;
    this.#speed = { sent: sent / period, received: received / period };
    this.#trainerThreads = trainerThreads(before, now) ?? this.#trainerThreads;
  }

  #storeTraffic(): void {
    const { totals, traffic, log } = this.#deps;
    const now = traffic();
    const { sent, received } = difference(now, this.#stored);
    if (sent === 0 && received === 0) return;
    try {
      totals.addTraffic(this.#month(), { sent, received });
      this.#stored = now;
    } catch (error) {
      log.warn({ reason: messageOf(error) }, 'traffic-not-stored');
    }
  }

  #month(): string {
    return new Date(this.#deps.clock.now()).toISOString().slice(0, 7);
  }
}

/**
 * Returns the average number of threads that the trainer used between two readings; null if it is not known. The
 * trainer reports its processor time after each step, so the average is over the time between two reports. If the
 * trainer is idle at a reading, it has used no processor time since its report. The time of the reading then takes the
 * place of the time of the report, so that the idle time between short rounds counts too.
 */
function trainerThreads(before: Sample, now: Sample): number | null {
  const { trainer: from } = before;
  const { trainer: to } = now;
  if (to === null) return 0;
  const isNews = from !== null && to.at > from.at && to.cpuSeconds >= from.cpuSeconds;
  // If a step takes longer than the interval, there is no new report.
  if (!isNews) return now.isIdle ? 0 : null;
  const start = before.isIdle ? before.at : from.at;
  const end = now.isIdle ? now.at : to.at;
  return end > start ? (1000 * (to.cpuSeconds - from.cpuSeconds)) / (end - start) : null;
}

function difference(a: Traffic, b: Traffic): Traffic {
  return { sent: a.sent - b.sent, received: a.received - b.received };
}
