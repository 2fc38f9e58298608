import type { JobEvent } from '../../monitor/job-events.ts';

/** A source of work on the checkpoints of jobs. */
export interface WorkSource {
  /** Returns a function that does the next work; null if no work is due. */
  next(): ((signal: AbortSignal) => Promise<void>) | null;
}

/** Events after which a job may have a checkpoint to work on. */
const OCCASIONS: readonly JobEvent['type'][] = ['job-created', 'checkpoint', 'rolled-back', 'finished'];

/**
 * Works on checkpoints while the rounds of the jobs go on: one checkpoint at a time, because each work opens the base
 * in a process of its own. The sources take turns, so that a source whose work never ends does not hold up other sources.
 */
export class BackgroundWork {
  readonly #sources: WorkSource[];
  readonly #life = new AbortController();
  #running: Promise<void> | null = null;

  constructor(deps: { sources: readonly WorkSource[] }) {
    this.#sources = [...deps.sources];
  }

  /** Does the work that is due, for example because an earlier process ended before its turn. */
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
    for (let work = this.#next(); work !== null; work = this.#next()) await work(signal);
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
