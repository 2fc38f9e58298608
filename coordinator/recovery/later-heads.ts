import { sleep, withDeadline } from '../../common/deadline.ts';
import type { JobEvent } from '../../monitor/job-events.ts';
import { encodeCbor } from '../../protocol/cbor.ts';
import { type HeadOrder, isNewer } from '../../protocol/head-order.ts';
import type { Head } from '../../protocol/messages.ts';
import { callTimeoutMs, type RpcResponse } from '../../protocol/rpc.ts';
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
/** Minimum time between two recovery attempts for one job, because a node can claim a later head again and again. */
const RETRY_MS = 10_000;
/** Maximum time to fetch the newest adapter. */
const FETCH_MS = 10 * 60_000;

interface Deps extends Pick<CoordinatorDeps, 'network' | 'blobs' | 'folders' | 'store' | 'clock' | 'log'> {
  readonly signal: AbortSignal;
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
  /** The newest recovery of each job. */
  readonly #running = new Map<string, Promise<void>>();
  /** Jobs with a proven later head that could not be adopted yet. */
  readonly #behind = new Set<string>();

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
    if (known === null || !isNewer(known, own)) return;
    const last = this.#attempts.get(job);
    if (signal.aborted || (last !== undefined && clock.monotonic() - last < RETRY_MS)) return;
    this.#attempts.set(job, clock.monotonic());
    log.warn({ job, peer, known, own: { term: own.term, sequence: own.sequence } }, 'later-head-claimed');
    const recovery = this.settled(job)
      .then(() => this.#recover(job, peer))
      .catch((error: unknown) => {
        if (!signal.aborted) log.error({ job, error }, 'not-caught-up');
      });
    this.#running.set(job, recovery);
  }

  /** Whether a node has proven a later head of a job, which this coordinator has not adopted yet. */
  isBehind(job: string): boolean {
    return this.#behind.has(job);
  }

  /** Resolves when no recovery of the job is running. */
  async settled(job: string): Promise<void> {
    await this.#running.get(job);
  }

  /** Resolves when no recovery attempt is running. */
  async idle(): Promise<void> {
    await Promise.all(this.#running.values());
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
    // Until the head is adopted, the job must sign no other head of the same term.
    this.#behind.add(job);
    await this.#restore(run, lost, peer, holders);
    this.#behind.delete(job);
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
        const limits = { clock, ms: callTimeoutMs('recall'), signal, what: 'the request "recall"' };
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
