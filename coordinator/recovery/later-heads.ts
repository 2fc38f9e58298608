import { sleep, withDeadline } from '../../common/deadline.ts';
import type { JobEvent } from '../../monitor/job-events.ts';
import { encodeCbor } from '../../protocol/cbor.ts';
import { type HeadOrder, isNewer } from '../../protocol/head-order.ts';
import { RPC_TIMEOUT_MS } from '../../protocol/limits.ts';
import type { Head } from '../../protocol/messages.ts';
import type { RpcResponse } from '../../protocol/rpc.ts';
import type { CoordinatorDeps } from '../context.ts';
import type { JobRun } from '../job-run.ts';
import { isOver } from '../round/job-phase.ts';
import { catchUp } from './catch-up.ts';
import { type LostRecords, lostRecords } from './lost-records.ts';

/** Maximum number of nodes that the coordinator asks for the records that it has lost. */
const ASKED_NODES = 16;
/**
 * Time for which the coordinator waits for further nodes before it asks the connected nodes for lost records. With more
 * nodes, it is more likely to find the newest head.
 */
const GATHER_MS = 2_000;
/**
 * Maximum time for which a restarted coordinator holds a job, to wait for the heads of the job's nodes. Nodes connect
 * again within a minute. If no node connects, the coordinator then merges the updates that it has.
 */
const HOLD_MS = 2 * 60_000;
/** Minimum time between two recovery attempts for one job, because a node can claim a later head again and again. */
const RETRY_MS = 10_000;
/** Maximum time to fetch the newest adapter. */
const FETCH_MS = 10 * 60_000;

interface Deps extends Pick<CoordinatorDeps, 'network' | 'blobs' | 'folders' | 'store' | 'clock' | 'log'> {
  readonly signal: AbortSignal;
  /** Whether a restarted coordinator holds its jobs until their nodes have reported their heads. */
  readonly awaitsNodes: boolean;
  /** The running jobs, by digest. A restart replaces the run of a job. */
  readonly runs: ReadonlyMap<string, JobRun>;
  /** Stops a job, runs `write` in a transaction, starts the job again from the database, and announces the event. */
  readonly restart: (job: string, write: () => JobEvent) => Promise<void>;
}

/**
 * Detects that a coordinator was restored from an old backup: its nodes have heads that the coordinator signed after
 * the backup. Adopts the newest of these heads, and fetches from the nodes the records that the backup lacks.
 */
export class LaterHeads {
  readonly #deps: Deps;
  /** Time of the newest recovery attempt for each job, on the monotonic clock. */
  readonly #attempts = new Map<string, number>();
  /** Jobs that are held for GATHER_MS, so that further nodes can report their heads. */
  readonly #gathering = new Set<JobRun>();
  #running: Promise<void> = Promise.resolve();

  constructor(deps: Deps) {
    this.#deps = deps;
  }

  /**
   * Takes note of the newest head that a peer claims to have. Asks nodes for proof if that head is later than
   * the newest head of this coordinator.
   */
  note(run: JobRun, peer: string, known: HeadOrder | null): void {
    const { clock, log, signal } = this.#deps;
    const { job } = run.context;
    const own = run.record.heads.newest.head;
    if (run.members.has(peer)) this.#releaseSoon(run);
    if (known === null || !isNewer(known, own)) return;
    const last = this.#attempts.get(job);
    if (signal.aborted || (last !== undefined && clock.monotonic() - last < RETRY_MS)) return;
    this.#attempts.set(job, clock.monotonic());
    log.warn({ job, peer, known, own: { term: own.term, sequence: own.sequence } }, 'later-head-claimed');
    this.#running = this.#running
      .then(() => this.#recover(job, peer))
      .catch((error: unknown) => {
        if (!signal.aborted) log.error({ job, error }, 'not-caught-up');
      });
  }

  /**
   * Continues a job after a restart of the coordinator. Holds the job until its nodes have reported their heads. Without
   * the hold, a coordinator with an old backup could merge a round for the second time before the nodes report. Its own
   * head would then not be older than the heads of the nodes, so it would not notice that the backup is old.
   */
  start(run: JobRun): void {
    const held = this.#deps.awaitsNodes && run.record.heads.newest.head.sequence > 1;
    run.start({ held });
    if (held) this.#releaseAfter(run, HOLD_MS);
  }

  #releaseSoon(run: JobRun): void {
    if (!run.driver.isHeld || this.#gathering.has(run)) return;
    this.#gathering.add(run);
    this.#releaseAfter(run, GATHER_MS);
  }

  /** Releases a job after a time, and after the recovery that a node has caused meanwhile. */
  #releaseAfter(run: JobRun, ms: number): void {
    const { clock, log } = this.#deps;
    const { job, signal } = run.context;
    sleep(clock, ms, signal)
      .then(() => this.#running)
      .then(() => {
        this.#gathering.delete(run);
        run.driver.release();
      })
      .catch((error: unknown) => {
        this.#gathering.delete(run);
        if (!signal.aborted) log.error({ job, error }, 'not-released');
      });
  }

  /** Resolves when no recovery attempt is running. */
  async idle(): Promise<void> {
    await this.#running;
  }

  async #recover(job: string, peer: string): Promise<void> {
    const { network, store, clock, log, signal, runs } = this.#deps;
    // Another recovery may have started the job again since the peer's claim. Recoveries run one at a time, so this run
    // stays the newest until the end of this recovery.
    const run = runs.get(job)!;
    if (run.context.signal.aborted) return;
    await sleep(clock, GATHER_MS, signal);
    const connected = network.peers().map((one) => one.peer);
    const members = [peer, ...connected.filter((one) => one !== peer && run.members.has(one))];
    const holders = members.slice(0, ASKED_NODES);
    const answers = await this.#ask(run, holders);
    const own = run.record.heads.newest.head;
    const lost = lostRecords(
      answers.map(({ answer }) => answer),
      {
        self: network.signer.peerId,
        job,
        head: own,
        settings: store.jobs.settings(job),
        has: (digest) => store.rounds.checkpointOf(job, digest) !== null,
      },
    );
    if (lost === null) {
      log.warn({ job, asked: holders.length, answers: answers.length }, 'no-later-head-proven');
      return;
    }
    if (lost.head.term > own.term && run.record.heads.hasRecorded) return this.#giveWay(run, lost.head);
    await this.#restore(run, lost, peer, holders);
  }

  async #ask(
    run: JobRun,
    holders: readonly string[],
  ): Promise<{ peer: string; answer: RpcResponse<'recall'> }[]> {
    const { network, clock, signal, log } = this.#deps;
    const { job } = run.context;
    const after = run.record.checkpoint.checkpoint.round;
    const all = holders.map(async (peer) => {
      try {
        const limits = { clock, ms: RPC_TIMEOUT_MS, signal, what: 'the request "recall"' };
        const answer = await withDeadline(limits, (inner) =>
          network.request(peer, 'recall', { job, after: Math.max(0, after - 1) }, { signal: inner }),
        );
        return [{ peer, answer }];
      } catch (error) {
        signal.throwIfAborted();
        log.debug({ job, peer, error }, 'recall-failed');
        return [];
      }
    });
    return (await Promise.all(all)).flat();
  }

  /** Pauses a job, because another copy of this coordinator has taken the job over. */
  #giveWay(run: JobRun, { term }: Head): void {
    const { job } = run.context;
    this.#deps.log.error({ job, term }, 'another-copy-runs');
    if (isOver(run.driver.state)) return;
    const reason = `another copy of this coordinator has taken over the job with term ${term}; stop one of the copies. To continue with this copy, restart it`;
    run.driver.dispatch({ type: 'pause', reason, cause: 'problem' });
  }

  async #restore(run: JobRun, lost: LostRecords, from: string, holders: readonly string[]): Promise<void> {
    const { network, blobs, folders, clock, signal, restart } = this.#deps;
    const { job, manifest, layout, collector } = run.context;
    const { adapter } = lost.head.checkpoint;
    await collector.withScope(async (scope) => {
      await scope.hold(adapter.digest);
      const limits = { clock, ms: FETCH_MS, signal, what: 'fetching the newest adapter' };
      await withDeadline(limits, (inner) => network.fetchBlob(adapter, { holders, signal: inner }));
      const held = new Set<string>();
      for (const { checkpoint, digest, envelope } of lost.checkpoints) {
        await scope.put(encodeCbor(checkpoint), digest);
        await scope.hold(checkpoint.adapter.digest);
        if (!(await blobs.has(checkpoint.adapter.digest))) continue;
        held.add(checkpoint.adapter.digest);
        await folders.write({ manifest, layout, digest, checkpoint, envelope });
      }
      await restart(job, () => catchUp(lost, { from, held }, run.context));
    });
  }
}
