import { Permits } from '../common/limits/permits.ts';
import { RateLimiter } from '../common/limits/rate-limiter.ts';
import { ClockJumps } from '../monitor/clock-jumps.ts';
import type { JobEvent } from '../protocol/api/job-events.ts';
import { JOBS_PER_COORDINATOR } from '../protocol/limits.ts';
import { verifyMessage } from '../protocol/signing.ts';
import { BlobCollector } from '../storage/blob-collector.ts';
import { repairingBlobs } from '../storage/repairing-blobs.ts';
import type { CoordinatorDeps, RetentionSettings, RunContext } from './context.ts';
import { defaultDeps } from './default-deps.ts';
import { coordinatorError } from './errors.ts';
import { JobRun } from './job-run.ts';
import { answerNodes } from './node-requests.ts';
import { Newcomers } from './peers/newcomers.ts';
import type { Removals } from './peers/removals.ts';
import { openQueued } from './queue.ts';
import { JobKeys } from './record/job-keys.ts';
import { JobSettings } from './record/job-settings.ts';
import { type PreparedJob, recordJob } from './record/new-job.ts';
import { QueuePlace } from './record/queue-place.ts';
import { defaultRetention } from './record/retention.ts';
import { BlobRepair } from './recovery/blob-repair.ts';
import { KeptCheckpoints } from './recovery/kept-checkpoints.ts';
import { KeptRemovals } from './recovery/kept-removals.ts';
import { LaterHeads } from './recovery/later-heads.ts';
import { Rechecks } from './recovery/rechecks.ts';
import { Scrub } from './recovery/scrub.ts';
import { StartHolds } from './recovery/start-holds.ts';
import { isOver } from './round/job-phase.ts';
import { banPeer, pardonPeer } from './sanctions.ts';
import type { StoredJob } from './store/store.ts';

/** Minimum length of a prefix of a digest that may name a job. The prefix must also be unique. */
const MIN_PREFIX_LENGTH = 4;

export interface CoordinatorOptions {
  /** Checkpoints and rounds to keep. @default defaultRetention */
  readonly retention?: RetentionSettings;
  /** Whether the coordinator audits updates: it trains some intervals again and compares the results. @default true */
  readonly audits?: boolean;
  /**
   * Whether a restarted coordinator holds its jobs until their nodes have reported their heads, because its database may
   * be an old backup. @default true
   */
  readonly awaitsNodes?: boolean;
}

/**
 * Runs the jobs in the store, answers nodes, and passes durable events to listeners. Clock, network, store and trainer
 * are dependencies, so that the simulation runs this class unchanged.
 */
export class Coordinator {
  readonly collector: BlobCollector;
  readonly repair: BlobRepair;
  readonly clockJumps: ClockJumps;
  readonly #scrub: Scrub;
  readonly #laterHeads: LaterHeads;
  readonly #keptCheckpoints: KeptCheckpoints;
  readonly #holds: StartHolds;
  readonly #deps: Required<CoordinatorDeps>;
  readonly #limiter: RateLimiter;
  readonly #newcomers: Newcomers;
  readonly #retention: RetentionSettings;
  readonly #audits: boolean;
  readonly #runs = new Map<string, JobRun>();
  /** By job: the controller that ends the job's run. */
  readonly #lives = new Map<string, AbortController>();
  readonly #listeners = new Set<(event: JobEvent, jobName: string) => void>();
  readonly #stopping = new AbortController();
  readonly #cleanups: (() => void)[] = [];
  /** Lets only one job be created at a time, because jobs with the same name write to the same folder. */
  readonly #creating = new Permits(1);
  #scrubbing: Promise<void> = Promise.resolve();

  constructor(
    { retention = defaultRetention, audits = true, awaitsNodes = true }: CoordinatorOptions,
    deps: CoordinatorDeps,
  ) {
    const { store, blobs, log } = deps;
    this.#retention = retention;
    this.#audits = audits;
    this.collector = new BlobCollector({ store: store.blobs, blobs, log });
    const { runs, signal } = { runs: this.#runs, signal: this.#stopping.signal };
    this.clockJumps = new ClockJumps(deps);
    this.repair = new BlobRepair({ ...deps, runs, signal });
    this.#scrub = new Scrub({ ...deps, repair: this.repair, runs, signal });
    const repairing = repairingBlobs(blobs, this.repair);
    this.#deps = { ...defaultDeps, ...deps, blobs: repairing };
    const restart = (job: string, write: (() => JobEvent) | null): Promise<void> => this.#restart(job, write);
    this.#laterHeads = new LaterHeads({ ...deps, runs, signal, restart });
    this.#keptCheckpoints = new KeptCheckpoints(deps);
    const onReleased = (): void => openQueued(this.jobs());
    this.#holds = new StartHolds({ ...deps, awaitsNodes, laterHeads: this.#laterHeads, onReleased });
    this.#limiter = new RateLimiter({ clock: deps.clock });
    this.#newcomers = new Newcomers(deps);
  }

  /** Continues every job from its stored state. @throws SwarmError if a stored manifest or head is damaged */
  start(): void {
    for (const stored of this.#deps.store.jobs.all()) this.#add(stored);
    const { network, store, clock } = this.#deps;
    const { signal } = this.#stopping;
    const rechecks = new Rechecks({ scrub: this.#scrub, clock, network, signal });
    const [runs, newcomers, laterHeads, holds] = [this.#runs, this.#newcomers, this.#laterHeads, this.#holds];
    const keptRemovals = new KeptRemovals({ ...this.#deps, runs, signal });
    const kept = { keptRemovals, keptCheckpoints: this.#keptCheckpoints };
    const requests = { network, store, clock, runs, newcomers, laterHeads, holds, ...kept, rechecks };
    this.#cleanups.push(...answerNodes(requests));
    for (const run of this.#runs.values()) this.#holds.start(run);
    // Open queued jobs whose turn has come. A process that was killed when a job ended may not have opened
    // the jobs that waited for it.
    openQueued(this.jobs());
    // Delete blobs that a process left behind because it was killed while it created a job.
    void this.collector.sweep();
    this.#scrubbing = this.#scrub.run();
    this.#cleanups.push(this.clockJumps.watch((byMs) => this.#noteClock(byMs)));
  }

  /**
   * Stops sending messages immediately. Resolves when the running merges and commits have ended. Loses no recorded
   * data.
   */
  async stop(): Promise<void> {
    this.#stopping.abort(coordinatorError('STOPPED', 'the coordinator is stopping', {}));
    for (const cleanup of this.#cleanups.splice(0)) cleanup();
    await Promise.all([...this.#runs.values()].map((run) => run.stop()));
    await Promise.all([this.#scrubbing, this.#laterHeads.idle(), this.#keptCheckpoints.idle()]);
    await this.collector.sweep();
  }

  /** Records an event in all open jobs, which tells their operators that the machine's clock was set. */
  #noteClock(byMs: number): void {
    for (const { context, driver } of this.jobs()) {
      if (!isOver(driver.state) && !context.signal.aborted)
        driver.transact((outbox) => outbox.event({ type: 'clock-set', byMs }));
    }
  }

  /** Returns the jobs in the order of their creation. */
  jobs(): JobRun[] {
    return [...this.#runs.values()];
  }

  /**
   * Finds a job.
   * @param id name, digest, or a unique prefix of the digest
   * @throws SwarmError JOB_UNKNOWN, JOB_AMBIGUOUS
   */
  find(id: string): JobRun {
    const exact = this.#runs.get(id) ?? this.jobs().find(({ context }) => context.manifest.name === id);
    if (exact) return exact;
    const matching =
      id.length >= MIN_PREFIX_LENGTH ? this.jobs().filter(({ context }) => context.job.startsWith(id)) : [];
    if (matching.length === 1) return matching[0]!;
    if (matching.length === 0) {
      throw coordinatorError('JOB_UNKNOWN', `there is no job "${id}"`, { id });
    }
    const jobs = matching.map(({ context }) => context.job);
    throw coordinatorError('JOB_AMBIGUOUS', `the digests of ${jobs.length} jobs begin with "${id}"`, {
      id,
      jobs,
    });
  }

  /**
   * Records a prepared job and starts it. If the job exists already, returns its run, and `isNew` is false.
   * @throws SwarmError JOB_EXISTS, TOO_MANY_JOBS, JOB_TOO_LARGE, STORE_FULL, WRITE_FAILED
   */
  async create(prepared: PreparedJob): Promise<{ run: JobRun; isNew: boolean }> {
    const release = await this.#creating.take('', this.#stopping.signal);
    try {
      const running = this.jobs().filter(({ driver }) => !isOver(driver.state)).length;
      if (running >= JOBS_PER_COORDINATOR) {
        const message = `${running} jobs are running; the maximum is ${JOBS_PER_COORDINATOR}`;
        throw coordinatorError('TOO_MANY_JOBS', message, { jobs: running, limit: JOBS_PER_COORDINATOR });
      }
      const { stored, events } = await this.collector.withScope((scope) =>
        recordJob(prepared, this.#deps, scope),
      );
      const known = this.#runs.get(stored.job);
      if (known) return { run: known, isNew: false };
      const run = this.#add(stored);
      for (const event of events) this.#announce(event, stored.name);
      run.start({ held: false });
      // Open the new job if the job that it waits for has ended meanwhile.
      openQueued(this.jobs());
      return { run, isNew: true };
    } finally {
      release();
    }
  }

  /** Calls `listener` with each event after it has become durable. Returns a function that removes the listener. */
  onEvent(listener: (event: JobEvent, jobName: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Bans a peer, and all other peers of the person who answers for it.
   * @param options `job`: id of the job from which the person is banned, or null for all jobs. `until`: end
   *   of the ban in ms since the epoch, or null for a permanent ban
   * @throws SwarmError JOB_UNKNOWN, JOB_AMBIGUOUS
   */
  ban(peer: string, { job, ...ban }: { job: string | null; reason: string; until: number | null }): void {
    const concerned = this.#concerned(job);
    banPeer(peer, { ...ban, job: concerned.job }, concerned);
  }

  /**
   * Lifts the strikes and the bans of the person who answers for a peer.
   * @param options `job`: id of the job in which the person is pardoned, or null for all jobs
   * @throws SwarmError JOB_UNKNOWN, JOB_AMBIGUOUS
   */
  pardon(peer: string, { job }: { job: string | null }): void {
    const concerned = this.#concerned(job);
    pardonPeer(peer, concerned, concerned);
  }

  /** Returns the job with an id, or all jobs if the id is null. */
  #concerned(id: string | null) {
    const { store, clock } = this.#deps;
    const runs = id === null ? this.jobs() : [this.find(id)];
    return { runs, job: id === null ? null : runs[0]!.context.job, store, clock };
  }

  #removalsFor(job: string | null): Removals[] {
    const runs = this.jobs().filter(({ context }) => job === null || context.job === job);
    return runs.map(({ members }) => members.removals);
  }

  #announce(event: JobEvent, name: string): void {
    for (const listener of this.#listeners) listener(event, name);
    if (event.type === 'finished' && !this.#stopping.signal.aborted) openQueued(this.jobs());
  }

  /**
   * Stops a job, runs `write` in a transaction, and starts the job again from the database. If `write` is null, the job is
   * held after the start.
   */
  async #restart(job: string, write: (() => JobEvent) | null): Promise<void> {
    const run = this.#runs.get(job)!;
    const { stored } = run.context;
    const { store } = this.#deps;
    this.#lives.get(job)!.abort(coordinatorError('STOPPED', 'the job is being started again', { job }));
    await run.stop();
    this.#stopping.signal.throwIfAborted();
    let held = true;
    try {
      if (write !== null) {
        const event = store.transaction(write);
        held = false;
        this.#announce(event, stored.name);
      }
    } finally {
      // Hold the job if `write` is null or has failed. A node then still has a later head than the database, so the job
      // must not sign a head.
      this.#add(store.jobs.byName(stored.name)!).start({ held });
    }
    // The job may be queued, or other jobs may wait for it.
    openQueued(this.jobs());
  }

  #add(stored: StoredJob): JobRun {
    const manifest = verifyMessage('manifest', stored.manifest).message;
    const life = new AbortController();
    this.#lives.set(stored.job, life);
    const context: RunContext = {
      job: stored.job,
      stored,
      manifest,
      layout: stored.layout,
      keys: new JobKeys({ job: stored.job, deps: this.#deps }),
      place: new QueuePlace(stored, this.#deps),
      settings: new JobSettings({ stored, manifest }, this.#deps),
      deps: { ...this.#deps, log: this.#deps.log.child({ job: stored.name }) },
      limiter: this.#limiter,
      collector: this.collector,
      retention: this.#retention,
      audits: this.#audits,
      signal: AbortSignal.any([this.#stopping.signal, life.signal]),
      noteKnown: (peer, known) => this.#laterHeads.claims.note(this.#runs.get(stored.job)!, peer, known),
      isBehind: () => this.#laterHeads.isBehind(stored.job),
      isStopping: () => this.#laterHeads.isStopping(stored.job),
      stopBehind: (reason) => this.#laterHeads.stop(this.#runs.get(stored.job)!, reason),
      onEvent: (event) => this.#announce(event, stored.name),
      enforcement: {
        changeKeys: ({ job, ...who }) => {
          for (const removals of this.#removalsFor(job)) removals.changeKeyOf(who);
        },
        remove: ({ job, ...who }) => {
          for (const removals of this.#removalsFor(job)) removals.removePerson(who);
        },
      },
    };
    const run = new JobRun({ context });
    this.#runs.set(stored.job, run);
    return run;
  }
}
