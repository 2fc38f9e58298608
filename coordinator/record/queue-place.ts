import type { Store, StoredJob } from '../store/store.ts';

/** The place of a job among the jobs of a coordinator. Its methods write to the store, in the caller's transaction. */
export class QueuePlace {
  readonly #job: string;
  readonly #store: Pick<Store, 'jobs'>;
  #priority: number;
  #after: string | null;

  constructor({ job, priority, afterJob }: StoredJob, { store }: { store: Pick<Store, 'jobs'> }) {
    this.#job = job;
    this.#store = store;
    this.#priority = priority;
    this.#after = afterJob;
  }

  /** Jobs with a higher priority come first. */
  get priority(): number {
    return this.#priority;
  }

  /** Digest of the job that must end before this one opens; null if this job is not queued. */
  get after(): string | null {
    return this.#after;
  }

  setPriority(priority: number): void {
    this.#priority = priority;
    this.#write();
  }

  /** Records that the job is no longer queued. */
  leaveQueue(): void {
    this.#after = null;
    this.#write();
  }

  #write(): void {
    this.#store.jobs.setPlace(this.#job, { priority: this.#priority, afterJob: this.#after });
  }
}
