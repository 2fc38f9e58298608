import { isSwarmError } from '../../common/errors.ts';
import { sleep } from '../../common/time/deadline.ts';
import type { JobEvent } from '../../protocol/api/job-events.ts';
import { encodeCbor } from '../../protocol/cbor.ts';
import { isNewer } from '../../protocol/job/head-order.ts';
import type { Head } from '../../protocol/messages.ts';
import type { CoordinatorDeps } from '../context.ts';
import { coordinatorError } from '../errors.ts';
import type { JobRun } from '../job-run.ts';
import { isOver } from '../round/job-phase.ts';
import { catchUp } from './catch-up.ts';
import { fetchInTurns, inTurns } from './fetch-in-turns.ts';
import { HeadClaims, type ProvenHead } from './head-claims.ts';
import type { LostRecords } from './lost-records.ts';
import { type Answered, isComplete, recall, recordsIn } from './recall.ts';
import { StopOrders } from './stop-orders.ts';

/**
 * Time for which the coordinator waits for further nodes before it asks the connected nodes for lost records. With more
 * nodes, it is more likely to find the newest head.
 */
const GATHER_MS = 2_000;
/**
 * Time for which the coordinator waits for further members if no connected node has the newest checkpoint, its adapter or the
 * checkpoints before it. After this time, the coordinator continues from an earlier checkpoint, or without the missing ones.
 */
const PATIENCE_MS = 10_000;
/**
 * Time that a recovery still has after the operator has ordered the job to stop. After this time, the job stops even if
 * lost records are still missing.
 */
const STOP_MS = 60_000;
/** Maximum number of answers with later heads that are kept for each job. The limit bounds the memory. */
const KEPT_PROOFS = 64;

interface Deps extends Pick<CoordinatorDeps, 'network' | 'blobs' | 'folders' | 'store' | 'clock' | 'log'> {
  readonly signal: AbortSignal;
  /** The running jobs, by digest. A restart replaces the run of a job. */
  readonly runs: ReadonlyMap<string, JobRun>;
  /**
   * Stops a job, runs `write` in a transaction, starts the job again from the database, and announces the event. If
   * `write` is null, the job is held after the start.
   */
  readonly restart: (job: string, write: (() => JobEvent) | null) => Promise<void>;
}

/**
 * Detects that a coordinator was restored from an old backup: its nodes have heads that the coordinator signed after
 * the backup. Adopts the newest of these heads, and fetches from the nodes the records that the backup lacks.
 */
export class LaterHeads {
  readonly #deps: Deps;
  readonly claims: HeadClaims;
  /** The running recovery of each job. */
  readonly #running = new Map<string, { readonly done: Promise<void>; readonly limit: AbortController }>();
  /** For each job with a proven later head that is not adopted yet: the newest of these heads, by peer. */
  readonly #behind = new Map<string, Map<string, ProvenHead>>();
  readonly #stops: StopOrders;
  /** Term of the other copy of the coordinator that the log has named for a run. */
  readonly #named = new WeakMap<JobRun, number>();

  constructor(deps: Deps) {
    this.#deps = deps;
    this.#stops = new StopOrders(deps.store);
    for (const proven of this.#stops.laterHeads()) this.#behind.set(proven.job, keep(proven, new Map()));
    this.claims = new HeadClaims({ ...deps, onProven: (proven) => this.#onProven(proven) });
  }

  /** Whether a node has proven a later head of a job, which this coordinator has not adopted yet. */
  isBehind(job: string): boolean {
    return this.#behind.has(job);
  }

  /**
   * Whether the operator has ordered to stop a job that was behind, perhaps before the last restart, and the job has not
   * stopped yet.
   */
  isStopping(job: string): boolean {
    return this.#stops.reason(job) !== null;
  }

  /**
   * Stops a job that is behind as soon as it has caught up. If it does not catch up within STOP_MS, it stops without the
   * records that are still missing. The order is stored before the call returns, so it survives a restart.
   */
  stop({ context: { job } }: JobRun, reason: string): void {
    const proofs = [...this.#behind.get(job)!.values()];
    this.#stops.put(
      proofs.reduce((a, b) => (isNewer(b.head, a.head) ? b : a)),
      reason,
    );
    const running = this.#running.get(job);
    if (running === undefined) this.carryOutStop(job);
    else this.#limit(job, running.limit);
  }

  /** Stops a job if the operator has ordered this. A job that is behind first tries to catch up. */
  carryOutStop(job: string): void {
    const reason = this.#stops.reason(job);
    if (reason === null) return;
    const run = this.#deps.runs.get(job)!;
    const behind = this.#behind.get(job);
    if (behind !== undefined) {
      if (!this.#running.has(job)) this.#start(run, behind.keys().next().value!);
      return;
    }
    if (!isOver(run.driver.state)) run.operate({ type: 'stop', reason });
    // Delete the order only now, because the coordinator may be killed before the job has stopped.
    this.#stops.delete(job);
  }

  /** Ends a recovery after STOP_MS. */
  #limit(job: string, limit: AbortController): void {
    const reason = coordinatorError('STOPPED', 'the operator stops the job', { job });
    this.#deps.clock.after(STOP_MS, () => limit.abort(reason));
  }

  /** Resolves when no recovery of the job is running, and each member that was asked for its head has had time to answer. */
  async settled(job: string): Promise<void> {
    await this.claims.settled(job);
    await this.#running.get(job)?.done;
  }

  /** Resolves when no request for a head and no recovery attempt is running. */
  async idle(): Promise<void> {
    await this.claims.idle();
    await Promise.all([...this.#running.values()].map(({ done }) => done));
  }

  #onProven(proven: ProvenHead): void {
    const { job, peer, head } = proven;
    const { log, runs } = this.#deps;
    const behind = this.#behind.get(job);
    if (behind !== undefined && this.#running.has(job)) {
      keep(proven, behind);
      return;
    }
    const run = runs.get(job)!;
    const own = run.record.heads.newest.head;
    if (!isNewer(head, own) || run.context.signal.aborted) return;
    if (head.term > own.term && run.record.heads.hasRecorded) {
      this.#giveWay(run, head);
      return;
    }
    // From now on, the job must sign no other head until it has adopted the later one.
    this.#behind.set(job, keep(proven, behind ?? new Map<string, ProvenHead>()));
    const { term, sequence } = head;
    log.warn({ job, peer, head: { term, sequence } }, 'later-head-proven');
    this.#start(run, peer);
  }

  #start(run: JobRun, peer: string): void {
    const { log, signal } = this.#deps;
    const { job } = run.context;
    const limit = new AbortController();
    if (this.isStopping(job)) this.#limit(job, limit);
    const done = this.#recover(run, peer, AbortSignal.any([signal, limit.signal]))
      .catch((error: unknown) => {
        if (!signal.aborted) log.error({ job, error }, 'not-caught-up');
      })
      .then(() => this.#endOrdered(job, peer))
      .catch((error: unknown) => {
        if (!signal.aborted) log.error({ job, error }, 'not-stopped');
      })
      .finally(() => this.#running.delete(job));
    this.#running.set(job, { done, limit });
  }

  /** Stops the job if the operator has ordered this. If it is still behind, it first continues from its own checkpoint. */
  async #endOrdered(job: string, from: string): Promise<void> {
    const { signal, runs, restart } = this.#deps;
    if (!this.isStopping(job) || signal.aborted) return;
    const behind = this.#behind.get(job);
    if (behind !== undefined) {
      const run = runs.get(job)!;
      const answers = [...behind.values()].map(({ answer }) => answer);
      const own = recordsIn(answers, run, this.#deps).find(
        ({ start }) => start.digest === run.record.checkpoint.digest,
      )!;
      await restart(job, () => catchUp(own, { from, held: new Set() }, run.context));
      this.#behind.delete(job);
    }
    this.carryOutStop(job);
  }

  async #recover({ context: { job }, driver }: JobRun, from: string, signal: AbortSignal): Promise<void> {
    const { clock, log, runs, restart } = this.#deps;
    // The restart ends a merge in progress, so that the job signs nothing more.
    if (!driver.isHeld && !isOver(driver.state)) await restart(job, null);
    const until = clock.monotonic() + PATIENCE_MS;
    const answered: Answered = new Map();
    for (let isLast = false; !isLast; ) {
      await sleep(clock, GATHER_MS, signal);
      const run = runs.get(job)!;
      const members = this.#connected(run);
      const proofs = [...this.#behind.get(job)!.values()].map(({ answer }) => answer);
      const options = { proofs, members, answered, until };
      const found = await recall(run, options, { ...this.#deps, signal });
      isLast = clock.monotonic() >= until || !this.#mayCome(run, members);
      for (const lost of found) {
        if ((isComplete(lost) || isLast) && (await this.#restore(job, lost, { from, members, signal })))
          return;
      }
    }
    log.error({ job }, 'no-adapter-available');
  }

  /**
   * Returns the connected members. Peers that have proven a later head come first. Addresses take turns, so that the members
   * at one address do not delay the others.
   */
  #connected({ context: { job }, members }: JobRun): string[] {
    const { network } = this.#deps;
    const connected = network.peers().map(({ peer }) => peer);
    const proven = [...this.#behind.get(job)!.keys()];
    const others = connected.filter((peer) => members.list.has(peer) && !proven.includes(peer));
    return [proven, others].flatMap((peers) => inTurns(peers, (peer) => network.networkOf(peer)));
  }

  /**
   * Returns whether further members may still connect and send lost records. Observers, and members that said goodbye,
   * do not count.
   */
  #mayCome({ members }: JobRun, connected: readonly string[]): boolean {
    return members.list
      .all()
      .some(
        ({ peer, role, saidGoodbye }) => role !== 'observer' && !saidGoodbye && !connected.includes(peer),
      );
  }

  /** Pauses a job, because another copy of this coordinator has taken the job over. */
  #giveWay(run: JobRun, { term }: Head): void {
    const { job } = run.context;
    const { state } = run.driver;
    // All nodes of the job prove the head, again and again, but the operator has to learn of it only once.
    const stands = isOver(state) || state.phase === 'paused';
    if (stands && this.#named.get(run) === term) return;
    this.#named.set(run, term);
    this.#deps.log.error({ job, term }, 'another-copy-runs');
    if (isOver(state)) return;
    const reason = `another copy of this coordinator has taken over the job with term ${term}; stop one of the copies. To continue with this copy, restart it`;
    run.driver.dispatch({ type: 'pause', reason, cause: 'problem' });
  }

  /**
   * Continues from a checkpoint. Returns false if no holder has the adapter of the checkpoint, or if the records cannot be
   * added to the database.
   */
  async #restore(
    job: string,
    lost: LostRecords,
    { from, members: holders, signal }: { from: string; members: readonly string[]; signal: AbortSignal },
  ): Promise<boolean> {
    const { blobs, folders, log, runs, restart } = this.#deps;
    // Look up the run again, because a failed attempt replaces it.
    const { context } = runs.get(job)!;
    const { manifest, layout, collector } = context;
    const { adapter, round } = lost.start;
    return collector.withScope(async (scope) => {
      await scope.hold(adapter.digest);
      try {
        await fetchInTurns(adapter, { holders, signal }, this.#deps);
      } catch (error) {
        if (!isSwarmError(error, 'BLOB_UNAVAILABLE')) throw error;
        log.warn({ job, round, reason: error.message }, 'adapter-unavailable');
        return false;
      }
      const held = new Set<string>();
      for (const { checkpoint, digest, envelope } of [...lost.beforeGap, ...lost.checkpoints]) {
        await scope.put(encodeCbor(checkpoint), digest);
        await scope.hold(checkpoint.adapter.digest);
        if (!(await blobs.has(checkpoint.adapter.digest))) continue;
        held.add(checkpoint.adapter.digest);
        await folders.write({ manifest, layout, digest, checkpoint, envelope });
      }
      try {
        await restart(job, () => catchUp(lost, { from, held }, context));
      } catch (error) {
        const isAdopted = !isNewer(lost.head, runs.get(job)!.record.heads.newest.head);
        if (signal.aborted || isAdopted) throw error;
        log.error({ job, round, error }, 'start-not-restored');
        return false;
      }
      this.#behind.delete(job);
      return true;
    });
  }
}

/** Adds a proof. If there are too many, drops the one with the oldest head. */
function keep(proven: ProvenHead, behind: Map<string, ProvenHead>): Map<string, ProvenHead> {
  behind.set(proven.peer, proven);
  if (behind.size <= KEPT_PROOFS) return behind;
  const oldest = [...behind.values()].reduce((a, b) => (isNewer(a.head, b.head) ? b : a));
  behind.delete(oldest.peer);
  return behind;
}
