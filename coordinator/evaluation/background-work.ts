import type { Logger } from '../../common/logger.ts';
import type { JobEvent } from '../../protocol/api/job-events.ts';

/** A source of work on the checkpoints of jobs. */
export interface WorkSource {
  /** Returns a function that does the next work; null if no work is due. */
  next(): ((signal: AbortSignal) => Promise<void>) | null;
}

/** Events after which a job may have a checkpoint to work on. */
const OCCASIONS: readonly JobEvent['type'][] = [
  'job-created',
  'checkpoint',
  'rolled-back',
  'tasks-changed',
  'finished',
];

/**
 * Runs background work on checkpoints while the rounds of the jobs continue. Only one piece of work runs at a time,
 * because each piece loads the base in a separate process. The sources of work take turns, so that a source that always
 * has work does not block the other sources.
 */
export class BackgroundWork {
  readonly #sources: WorkSource[];
  readonly #log: Logger;
  readonly #life = new AbortController();
  #running: Promise<void> | null = null;

  constructor({ sources, log }: { sources: readonly WorkSource[]; log: Logger }) {
    this.#sources = [...sources];
    this.#log = log;
  }

  /** Does the work that is due, for example because an earlier process ended before it did this work. */
  start(): void {
    this.#running ??= this.#workAll().finally(() => {
      this.#running = null;
    });
  }

  observe({ type }: JobEvent): void {
    // Start in the next turn of the event loop, because listeners are called before the transition of the job that
    // caused the event has ended.
    if (OCCASIONS.includes(type) && !this.#life.signal.aborted) setImmediate(() => this.start());
  }

  /** Ends the work that is running. It begins again at the next start of the coordinator. */
  async stop(): Promise<void> {
    this.#life.abort();
    await this.#running;
  }

  async #workAll(): Promise<void> {
    const { signal } = this.#life;
    try {
      for (let work = this.#next(); work !== null; work = this.#next()) await work(signal);
    } catch (error) {
      // The work can fail, for example because the disk is full or because the job was started again meanwhile. The
      // rounds continue, and the work is tried again at the next event of OCCASIONS.
      if (!signal.aborted) this.#log.error({ error }, 'background-work-failed');
    }
  }

  #next(): ReturnType<WorkSource['next']> {
    if (this.#life.signal.aborted) return null;
    for (const source of this.#sources) {
      const work = source.next();
      if (work === null) continue;
      this.#sources.splice(this.#sources.indexOf(source), 1);
      this.#sources.push(source);
      return work;
    }
    return null;
  }
}
