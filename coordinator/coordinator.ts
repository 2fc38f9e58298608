import { Permits } from '../common/permits.ts';
import { type Quota, RateLimiter } from '../common/rate-limiter.ts';
import type { JobEvent } from '../monitor/job-events.ts';
import { JOBS_PER_COORDINATOR, ROUND_PEERS } from '../protocol/limits.ts';
import type { Manifest } from '../protocol/manifest.ts';
import { BlobCollector } from '../storage/blob-collector.ts';
import { type CoordinatorDeps, type RunContext, readManifest } from './context.ts';
import { coordinatorError } from './errors.ts';
import { claimedJob } from './intake/header-checks.ts';
import { JobRun } from './job-run.ts';
import { checkAdmission } from './peers/admission.ts';
import { type PreparedJob, recordJob } from './record/new-job.ts';
import { defaultRetention, type RetentionSettings } from './record/retention.ts';
import { isOver } from './round/round-machine.ts';
import type { StoredJob } from './store/store.ts';

/**
 * Nodes that may come, come back or change their name, over all jobs: a full round's and as many again at once, then 17 a
 * second. Each is written down, which waits for the disk, and identities cost a stranger nothing.
 */
export const NEWCOMERS: Quota = { calls: 2 * ROUND_PEERS, perMs: 60_000 };
/** Characters of a digest that name a job when they are unique. */
const LEAST_PREFIX = 4;

export interface CoordinatorOptions {
  /** What is kept of rounds that are over. @default defaultRetention */
  readonly retention?: RetentionSettings;
}

/**
 * Runs jobs: keeps what the store says going, answers nodes, and tells listeners what becomes durable. Clock, network,
 * store and trainer come from outside, so that a simulation can run it as it is.
 */
export class Coordinator {
  readonly #deps: Required<CoordinatorDeps>;
  readonly #limiter: RateLimiter;
  readonly #retention: RetentionSettings;
  readonly collector: BlobCollector;
  readonly #runs = new Map<string, JobRun>();
  readonly #listeners = new Set<(event: JobEvent, job: string) => void>();
  readonly #stopping = new AbortController();
  readonly #cleanups: (() => void)[] = [];
  /** One job at a time: two of the same name write to the same folder. */
  readonly #founding = new Permits(1);

  constructor({ retention = defaultRetention }: CoordinatorOptions, deps: CoordinatorDeps) {
    const { store, blobs, log } = deps;
    this.#retention = retention;
    this.collector = new BlobCollector({ store: store.blobs, blobs, log });
    this.#deps = { failpoint: () => {}, fatal: throwLater, ...deps };
    this.#limiter = new RateLimiter({ clock: deps.clock });
  }

  /** Takes up all jobs where the store left them. @throws SwarmError when a stored manifest or head is damaged */
  start(): void {
    for (const stored of this.#deps.store.jobs.all()) this.#add(stored);
    this.#answerNodes();
    for (const run of this.#runs.values()) run.start();
    // What an attempt at creating a job has left, if the process was killed in it.
    void this.collector.sweep();
  }

  /** Says nothing more to anybody at once; resolves when the steps at hand have ended. Nothing recorded is lost. */
  async stop(): Promise<void> {
    this.#stopping.abort(coordinatorError('STOPPED', 'the coordinator is stopping', {}));
    for (const cleanup of this.#cleanups.splice(0)) cleanup();
    await Promise.all([...this.#runs.values()].map((run) => run.stop()));
    await this.collector.sweep();
  }

  /** Jobs in the order of their creation. */
  jobs(): JobRun[] {
    return [...this.#runs.values()];
  }

  /**
   * @param id name, digest, or a unique beginning of the digest
   * @throws SwarmError JOB_UNKNOWN, JOB_AMBIGUOUS
   */
  find(id: string): JobRun {
    const exact = this.#runs.get(id) ?? this.jobs().find(({ context }) => context.manifest.name === id);
    if (exact) return exact;
    const matching =
      id.length >= LEAST_PREFIX ? this.jobs().filter(({ context }) => context.job.startsWith(id)) : [];
    if (matching.length === 1) return matching[0]!;
    if (matching.length === 0) {
      throw coordinatorError('JOB_UNKNOWN', `there is no job "${id}"; \`swarm job list\` shows all`, { id });
    }
    const jobs = matching.map(({ context }) => context.job);
    throw coordinatorError(
      'JOB_AMBIGUOUS',
      `${jobs.length} jobs begin with "${id}"; give more of the digest`,
      {
        id,
        jobs,
      },
    );
  }

  /**
   * Makes a prepared job durable and starts it. The same job again changes nothing and is returned.
   * @throws SwarmError JOB_EXISTS, TOO_MANY_JOBS, JOB_TOO_LARGE, STORE_FULL, WRITE_FAILED
   */
  async create(prepared: PreparedJob): Promise<JobRun> {
    const giveBack = await this.#founding.take('', this.#stopping.signal);
    try {
      return await this.#found(prepared);
    } finally {
      giveBack();
    }
  }

  async #found(prepared: PreparedJob): Promise<JobRun> {
    const open = this.jobs().filter(({ state }) => !isOver(state)).length;
    if (open >= JOBS_PER_COORDINATOR) {
      const message = `${open} jobs are running, a coordinator takes no more; stop one`;
      throw coordinatorError('TOO_MANY_JOBS', message, { jobs: open, limit: JOBS_PER_COORDINATOR });
    }
    const { stored, event } = await this.collector.withScope((scope) =>
      recordJob(prepared, this.#deps, scope),
    );
    const known = this.#runs.get(stored.job);
    if (known) return known;
    const run = this.#add(stored);
    if (event) this.#tell(event, stored.name);
    run.start();
    return run;
  }

  /** Called with each event after it has become durable. Returns a function that ends that. */
  onEvent(listener: (event: JobEvent, jobName: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #tell(event: JobEvent, name: string): void {
    for (const listener of this.#listeners) listener(event, name);
  }

  #add(stored: StoredJob): JobRun {
    const manifest: Manifest = readManifest(stored).message;
    const context: RunContext = {
      job: stored.job,
      stored,
      manifest,
      layout: stored.layout,
      deps: { ...this.#deps, log: this.#deps.log.child({ job: stored.name }) },
      limiter: this.#limiter,
      collector: this.collector,
      retention: this.#retention,
      signal: this.#stopping.signal,
      onEvent: (event) => this.#tell(event, stored.name),
    };
    const run = new JobRun({}, { context });
    this.#runs.set(stored.job, run);
    return run;
  }

  #answerNodes(): void {
    const { network } = this.#deps;
    this.#cleanups.push(
      network.handle('jobs', async () => ({
        // Those that are over last: they may not all fit.
        jobs: this.jobs()
          .sort((a, b) => Number(isOver(a.state)) - Number(isOver(b.state)))
          .map(({ context, state }) => ({
            job: context.job,
            name: context.manifest.name,
            phase: state.phase,
          }))
          .slice(0, JOBS_PER_COORDINATOR),
      })),
      network.handle('join', async (peer, { job, ...asked }) => {
        const run = this.#running(job);
        if (run.isNews(peer, asked) && !this.#limiter.take('newcomers', NEWCOMERS)) {
          throw coordinatorError(
            'BUSY',
            'many nodes join at this moment; this one tries again by itself',
            {},
          );
        }
        run.join(peer, asked);
        return { manifest: run.context.stored.manifest, head: run.head };
      }),
      network.handle('manifest', async (peer, { job, invite }) => {
        const { context, roster, head } = this.#running(job);
        const { admission, token, manifest } = context.stored;
        if (!roster.has(peer)) checkAdmission(admission, token, { peer, invite });
        return { manifest, head };
      }),
      network.handle('leave', async (peer, { job }) => {
        this.#running(job).leave(peer);
        return {};
      }),
      network.handle('head', async (_peer, { job, known }) => ({
        head: this.#running(job).headAfter(known ?? null),
      })),
      network.handle('submit', async (peer, { update }) => {
        // Garbage is held against its sender in the job that it takes part in.
        const run =
          this.#runs.get(claimedJob(update) ?? '') ?? this.jobs().find(({ roster }) => roster.has(peer));
        if (!run)
          throw coordinatorError('wrong-job', 'this coordinator does not run the job of the update', {});
        return { receipt: await run.submit(peer, update) };
      }),
      network.handle('receipt', async (peer, { job, update }) => ({
        receipt: this.#running(job).receipt(peer, update),
      })),
    );
  }

  #running(job: string): JobRun {
    const run = this.#runs.get(job);
    if (run) return run;
    throw coordinatorError('JOB_UNKNOWN', `this coordinator does not run job ${job}`, { job });
  }
}

/** Outside of any promise, where the process's own handler for the worst sees it. */
function throwLater(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}
