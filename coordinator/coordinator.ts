import { randomBytes } from 'node:crypto';
import { Permits } from '../common/permits.ts';
import { RateLimiter } from '../common/rate-limiter.ts';
import type { JobEvent } from '../monitor/job-events.ts';
import { isNewer } from '../protocol/head-order.ts';
import { JOBS_PER_COORDINATOR } from '../protocol/limits.ts';
import { verifyMessage } from '../protocol/signing.ts';
import { BlobCollector } from '../storage/blob-collector.ts';
import { signedFigures } from './audits/figures.ts';
import type { CoordinatorDeps, RetentionSettings, RoundMeter, RunContext } from './context.ts';
import { coordinatorError } from './errors.ts';
import { claimedUpdate } from './intake/header-checks.ts';
import { JobRun } from './job-run.ts';
import { mayFetch } from './peers/blob-access.ts';
import { Newcomers } from './peers/newcomers.ts';
import { JobKeys } from './record/job-keys.ts';
import { type PreparedJob, recordJob } from './record/new-job.ts';
import { defaultRetention } from './record/retention.ts';
import { isOver } from './round/round-machine.ts';
import type { StoredBan, StoredJob } from './store/store.ts';

/** Shortest prefix of a digest that may name a job. The prefix must also be unique. */
const LEAST_PREFIX = 4;

export interface CoordinatorOptions {
  /** Checkpoints and rounds to keep. @default defaultRetention */
  readonly retention?: RetentionSettings;
  /** Whether a share of the updates is trained again and compared. @default true */
  readonly audits?: boolean;
}

/**
 * Runs the jobs in the store, answers nodes, and passes durable events to listeners. Clock, network, store and trainer
 * are dependencies, so that the simulation runs this class unchanged.
 */
export class Coordinator {
  readonly collector: BlobCollector;
  readonly #deps: Required<CoordinatorDeps>;
  readonly #limiter: RateLimiter;
  readonly #newcomers: Newcomers;
  readonly #retention: RetentionSettings;
  readonly #audits: boolean;
  readonly #runs = new Map<string, JobRun>();
  readonly #listeners = new Set<(event: JobEvent, jobName: string) => void>();
  readonly #stopping = new AbortController();
  readonly #cleanups: (() => void)[] = [];
  /** Only one job is created at a time, because jobs of the same name write to the same folder. */
  readonly #creating = new Permits(1);

  constructor({ retention = defaultRetention, audits = true }: CoordinatorOptions, deps: CoordinatorDeps) {
    const { store, blobs, log } = deps;
    this.#retention = retention;
    this.#audits = audits;
    this.collector = new BlobCollector({ store: store.blobs, blobs, log });
    this.#deps = { failpoint: () => {}, fatal: throwLater, meter: noMeter, randomBytes, ...deps };
    this.#limiter = new RateLimiter({ clock: deps.clock });
    this.#newcomers = new Newcomers(deps);
  }

  /** Continues every job from the stored state. @throws SwarmError when a stored manifest or head is damaged */
  start(): void {
    for (const stored of this.#deps.store.jobs.all()) this.#add(stored);
    this.#answerNodes();
    for (const run of this.#runs.values()) run.start();
    // A process that was killed while it created a job may have left blobs.
    void this.collector.sweep();
  }

  /** Stops sending immediately. Resolves when running merges and commits have ended. No recorded data is lost. */
  async stop(): Promise<void> {
    this.#stopping.abort(coordinatorError('STOPPED', 'the coordinator is stopping', {}));
    for (const cleanup of this.#cleanups.splice(0)) cleanup();
    await Promise.all([...this.#runs.values()].map((run) => run.stop()));
    await this.collector.sweep();
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
      id.length >= LEAST_PREFIX ? this.jobs().filter(({ context }) => context.job.startsWith(id)) : [];
    if (matching.length === 1) return matching[0]!;
    if (matching.length === 0) {
      throw coordinatorError('JOB_UNKNOWN', `there is no job "${id}"`, { id });
    }
    const jobs = matching.map(({ context }) => context.job);
    throw coordinatorError('JOB_AMBIGUOUS', `${jobs.length} jobs begin with "${id}"`, { id, jobs });
  }

  /**
   * Records a prepared job and starts it. If the job exists already, returns its run.
   * @throws SwarmError JOB_EXISTS, TOO_MANY_JOBS, JOB_TOO_LARGE, STORE_FULL, WRITE_FAILED
   */
  async create(prepared: PreparedJob): Promise<JobRun> {
    const release = await this.#creating.take('', this.#stopping.signal);
    try {
      const running = this.jobs().filter(({ driver }) => !isOver(driver.state)).length;
      if (running >= JOBS_PER_COORDINATOR) {
        const message = `${running} jobs are running (limit ${JOBS_PER_COORDINATOR})`;
        throw coordinatorError('TOO_MANY_JOBS', message, { jobs: running, limit: JOBS_PER_COORDINATOR });
      }
      const { stored, event } = await this.collector.withScope((scope) =>
        recordJob(prepared, this.#deps, scope),
      );
      const known = this.#runs.get(stored.job);
      if (known) return known;
      const run = this.#add(stored);
      if (event) this.#announce(event, stored.name);
      run.start();
      return run;
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
   * @param options `job`: id of the only job of the ban; null: all jobs. `until`: ms since the epoch; null: for good
   * @throws SwarmError JOB_UNKNOWN, JOB_AMBIGUOUS
   */
  ban(
    peer: string,
    { job: id, reason, until }: { job: string | null; reason: string; until: number | null },
  ): void {
    const { store, clock } = this.#deps;
    const runs = id === null ? this.jobs() : [this.find(id)];
    const job = id === null ? null : runs[0]!.context.job;
    const known = runs.filter(
      ({ members, ledger }) =>
        members.has(peer) || members.invites.inviteOf(peer) !== null || ledger.hasStruck(peer),
    );
    const ban = { cause: 'operator', job, reason, until } as const;
    for (const { driver, ledger } of known) {
      driver.transact((outbox) => ledger.ban(ledger.who(peer), ban, outbox));
    }
    if (known.length > 0) return;
    const who = { peer, person: peer };
    store.transaction(() => store.bans.insert({ ...who, ...ban, at: clock.now() }));
    this.#enforce({ ...who, job });
  }

  /**
   * Lifts the strikes and the bans of the person who answers for a peer.
   * @param options `job`: id of the only job in which the person is pardoned; null: all jobs
   * @throws SwarmError JOB_UNKNOWN, JOB_AMBIGUOUS
   */
  pardon(peer: string, { job: id }: { job: string | null }): void {
    const { store, clock } = this.#deps;
    const runs = id === null ? this.jobs() : [this.find(id)];
    for (const { driver, ledger } of runs) {
      // A job that waits for nodes may go on with the pardoned ones.
      driver.dispatch({ type: 'judged', peers: {} }, (outbox) =>
        ledger.pardon(ledger.who(peer), { onlyJob: id !== null }, outbox),
      );
    }
    if (id === null) {
      store.transaction(() => store.bans.pardon({ peer, person: peer }, null, clock.now()));
    }
  }

  /** Removes the nodes of a banned person from the jobs, and closes their connections. */
  #enforce({ job, ...who }: Pick<StoredBan, 'peer' | 'person' | 'job'>): void {
    for (const { context, members } of this.jobs()) {
      if (job === null || context.job === job) members.removePerson(who);
    }
  }

  #announce(event: JobEvent, name: string): void {
    for (const listener of this.#listeners) listener(event, name);
  }

  #add(stored: StoredJob): JobRun {
    const context: RunContext = {
      job: stored.job,
      stored,
      manifest: verifyMessage('manifest', stored.manifest).message,
      layout: stored.layout,
      keys: new JobKeys({ job: stored.job, deps: this.#deps }),
      deps: { ...this.#deps, log: this.#deps.log.child({ job: stored.name }) },
      limiter: this.#limiter,
      collector: this.collector,
      retention: this.#retention,
      audits: this.#audits,
      signal: this.#stopping.signal,
      onEvent: (event) => this.#announce(event, stored.name),
      onBan: (ban) => this.#enforce(ban),
    };
    const run = new JobRun({ context });
    this.#runs.set(stored.job, run);
    return run;
  }

  #answerNodes(): void {
    const { network, store } = this.#deps;
    network.reserveFor((peer) => this.#isMember(peer));
    network.serveBlobs((peer, digest) => mayFetch(peer, digest, { jobs: this.jobs(), store }));
    this.#cleanups.push(
      network.handle('jobs', async (peer, { invite }) => {
        const all = this.jobs();
        const visible = all.filter((run) => run.members.has(peer) || run.admits(peer, invite));
        // Jobs that are over come last, because the answer may not have space for all jobs.
        const jobs = visible
          .sort((a, b) => Number(isOver(a.driver.state)) - Number(isOver(b.driver.state)))
          .map(({ context, driver }) => ({
            job: context.job,
            name: context.manifest.name,
            phase: driver.state.phase,
          }))
          .slice(0, JOBS_PER_COORDINATOR);
        return { jobs, others: visible.length < all.length };
      }),
      network.handle('join', async (peer, { job, ...request }, { signal }) => {
        const { context, members, record, ledger } = this.#running(job);
        // Check the request before waiting, so that only nodes that may join wait in line. Members do not wait.
        if (members.checkJoin(peer, request) === 'newcomer') {
          await this.#newcomers.wait(peer, signal).catch((error: unknown) => {
            members.countRefusal(error);
            throw error;
          });
        }
        members.join(peer, request);
        const { manifest, admission } = context.stored;
        return {
          manifest,
          head: record.heads.newest.envelope,
          admission: admission.kind,
          role: members.get(peer)!.role,
          standing: ledger.toldTo(peer),
          keys: context.keys.message(),
        };
      }),
      network.handle('manifest', async (peer, { job, invite }) => {
        const { context, members, record } = this.#running(job);
        members.admitReader(peer, invite);
        return { manifest: context.stored.manifest, head: record.heads.newest.envelope };
      }),
      network.handle('leave', async (peer, { job }) => {
        this.#running(job).members.liveness.leave(peer);
        return {};
      }),
      network.handle('head', async (peer, { job, known }) => {
        const run = this.#running(job);
        run.members.invites.checkNotRevoked(peer);
        if (!run.mayRead(peer)) {
          throw coordinatorError('NOT_ADMITTED', 'only peers that may read the job get its heads');
        }
        const { head, envelope } = run.record.heads.newest;
        return { head: isNewer(head, known ?? null) ? envelope : null, keys: run.context.keys.message() };
      }),
      network.handle('submit', async (peer, { update }) => {
        // If the update names none of our jobs, the job that its sender is a member of refuses it.
        const run =
          this.#runs.get(claimedUpdate(update)?.job ?? '') ??
          this.jobs().find(({ members }) => members.has(peer));
        if (!run) throw coordinatorError('wrong-job', "this coordinator does not run the update's job");
        return {
          receipt: run.receipts.sign(await run.intake.receive(update, peer, { sealed: false }).receipt),
        };
      }),
      network.handle('receipt', async (peer, { job, update }) => {
        const { members, receipts } = this.#running(job);
        members.invites.checkNotRevoked(peer);
        return { receipt: receipts.find(peer, update) };
      }),
      network.handle('figures', async (peer, { job, round }) => {
        const run = this.#running(job);
        run.members.invites.checkNotRevoked(peer);
        if (!run.mayRead(peer)) {
          throw coordinatorError('NOT_ADMITTED', 'only peers that may read the job get its scores');
        }
        return { figures: signedFigures(round, run.context) };
      }),
    );
  }

  #isMember(peer: string): boolean {
    for (const { members } of this.#runs.values()) if (members.has(peer)) return true;
    return false;
  }

  #running(job: string): JobRun {
    const run = this.#runs.get(job);
    if (run) return run;
    throw coordinatorError('JOB_UNKNOWN', `this coordinator does not run job ${job}`, { job });
  }
}

const noMeter: RoundMeter = {
  merge: () => {},
  gate: () => {},
  scoring: () => {},
  audit: () => {},
  refusal: () => {},
  join: () => {},
  unrecorded: () => {},
};

/** Throws outside of any promise, so that the process's handler of uncaught errors gets the error. */
function throwLater(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}
