import { sleep, withDeadline } from '../../common/deadline.ts';
import { isSwarmError } from '../../common/errors.ts';
import type { JobEvent } from '../../monitor/job-events.ts';
import { encodeCbor } from '../../protocol/cbor.ts';
import { isNewer } from '../../protocol/head-order.ts';
import type { Head } from '../../protocol/messages.ts';
import { callTimeoutMs, type RpcResponse } from '../../protocol/rpc.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import type { CoordinatorDeps } from '../context.ts';
import type { JobRun } from '../job-run.ts';
import { isOver } from '../round/job-phase.ts';
import { catchUp } from './catch-up.ts';
import { HeadClaims, type ProvenHead } from './head-claims.ts';
import { type LostRecords, lostRecords } from './lost-records.ts';

/** Number of nodes that the coordinator asks at the same time for the records that it has lost. */
const ASKED_NODES = 16;
/**
 * Time for which the coordinator waits for further nodes before it asks the connected nodes for lost records. With more
 * nodes, it is more likely to find the newest head.
 */
const GATHER_MS = 2_000;
/**
 * Time for which the coordinator waits for further members if no connected node has the newest checkpoint or its adapter.
 * After this time, the coordinator continues from an earlier checkpoint.
 */
const PATIENCE_MS = 10_000;
/** Maximum time to fetch the newest adapter. */
const FETCH_MS = 10 * 60_000;

type Answer = RpcResponse<'recall'>;

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
  /** The newest recovery of each job. */
  readonly #running = new Map<string, Promise<void>>();
  /** For each job with a proven later head that is not adopted yet: the answers with such heads, by peer. */
  readonly #behind = new Map<string, Map<string, Answer>>();

  constructor(deps: Deps) {
    this.#deps = deps;
    this.claims = new HeadClaims({ ...deps, onProven: (proven) => this.#onProven(proven) });
  }

  /** Whether a node has proven a later head of a job, which this coordinator has not adopted yet. */
  isBehind(job: string): boolean {
    return this.#behind.has(job);
  }

  /** Resolves when no recovery of the job is running, and each member that was asked for its head has had time to answer. */
  async settled(job: string): Promise<void> {
    await this.claims.settled(job);
    await this.#running.get(job);
  }

  /** Resolves when no request for a head and no recovery attempt is running. */
  async idle(): Promise<void> {
    await this.claims.idle();
    await Promise.all(this.#running.values());
  }

  #onProven({ job, peer, head, answer }: ProvenHead): void {
    const { log, signal, runs } = this.#deps;
    const behind = this.#behind.get(job);
    if (behind !== undefined && this.#running.has(job)) {
      behind.set(peer, answer);
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
    this.#behind.set(job, (behind ?? new Map<string, Answer>()).set(peer, answer));
    const { term, sequence } = head;
    log.warn({ job, peer, head: { term, sequence } }, 'later-head-proven');
    const recovery = this.#recover(run, peer)
      .catch((error: unknown) => {
        if (!signal.aborted) log.error({ job, error }, 'not-caught-up');
      })
      .finally(() => this.#running.delete(job));
    this.#running.set(job, recovery);
  }

  async #recover({ context: { job }, driver }: JobRun, from: string): Promise<void> {
    const { clock, log, signal, runs, restart } = this.#deps;
    // The restart ends a merge in progress, so that the job signs nothing more.
    if (!driver.isHeld && !isOver(driver.state)) await restart(job, null);
    const until = clock.monotonic() + PATIENCE_MS;
    for (let isLast = false; !isLast; ) {
      await sleep(clock, GATHER_MS, signal);
      const run = runs.get(job)!;
      const members = this.#connected(run);
      isLast = clock.monotonic() >= until || !this.#mayCome(run, members);
      for (const lost of await this.#recall(run, members)) {
        const isWhole = lost.start.digest === lost.head.checkpoint.digest;
        if ((isWhole || isLast) && (await this.#restore(job, lost, from, members))) return;
      }
    }
    log.error({ job }, 'no-adapter-available');
  }

  /** Returns the connected members, and before them the peers that have proven a later head. */
  #connected({ context: { job }, members }: JobRun): string[] {
    const connected = this.#deps.network.peers().map(({ peer }) => peer);
    const proven = this.#behind.get(job)!.keys();
    return [...new Set([...proven, ...connected.filter((peer) => members.list.has(peer))])];
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

  /** Asks members for the lost records. Asks further members until one of them has the checkpoint of the newest head. */
  async #recall(run: JobRun, members: readonly string[]): Promise<LostRecords[]> {
    const { network, store, log } = this.#deps;
    const { job } = run.context;
    const { digest: newest, checkpoint, ordinal } = run.record.checkpoint;
    const rows = store.rounds.checkpointOf(job, newest)!.ordinal;
    const known = {
      self: network.signer.peerId,
      job,
      head: run.record.heads.newest.head,
      newest,
      settings: store.jobs.settings(job),
      find: (digest: string) => {
        const row = store.rounds.checkpointOf(job, digest);
        if (row === null) return null;
        const { message } = verifyMessage('checkpoint', row.envelope);
        return { checkpoint: message, ordinal: ordinal - (rows - row.ordinal) };
      },
    };
    const answers = [...this.#behind.get(job)!.values()];
    let lost = lostRecords(answers, known);
    let after = Math.max(0, checkpoint.round - 1);
    for (let asked = 0; asked < members.length; asked += ASKED_NODES) {
      answers.push(...(await this.#ask(job, members.slice(asked, asked + ASKED_NODES), after)));
      lost = lostRecords(answers, known);
      const [best] = lost;
      if (best === undefined) continue;
      if (best.start.digest === best.head.checkpoint.digest) break;
      after = best.head.checkpoint.round - 1;
    }
    // The database may have rounds that are not part of the lost history, for example because the coordinator worked
    // with other nodes after the restore. The last common checkpoint is then older than the rounds asked for above.
    let isLonger = true;
    for (let asked = 0; asked < members.length && isLonger; asked += ASKED_NODES) {
      const [best] = lost;
      if (best === undefined || !mayBeLonger(best, checkpoint.round)) break;
      answers.push(...(await this.#ask(job, members.slice(asked, asked + ASKED_NODES), 0)));
      lost = lostRecords(answers, known);
      isLonger = lost[0]!.checkpoints.length > best.checkpoints.length;
    }
    log.info(
      { job, asked: members.length, answers: answers.length, start: lost[0]?.start.round },
      'records-recalled',
    );
    return lost;
  }

  async #ask(job: string, members: readonly string[], after: number): Promise<Answer[]> {
    const { network, clock, signal, log } = this.#deps;
    const all = members.map(async (peer): Promise<Answer[]> => {
      try {
        const limits = { clock, ms: callTimeoutMs('recall'), signal, what: 'the request "recall"' };
        const answer = await withDeadline(limits, (inner) =>
          network.request(peer, 'recall', { job, after }, { signal: inner }),
        );
        return [answer];
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

  /**
   * Continues from a checkpoint. Returns false if no holder has the adapter of the checkpoint, or if the records cannot be
   * added to the database.
   */
  async #restore(job: string, lost: LostRecords, from: string, holders: readonly string[]): Promise<boolean> {
    const { network, blobs, folders, clock, log, signal, runs, restart } = this.#deps;
    // Look up the run again, because a failed attempt replaces it.
    const { context } = runs.get(job)!;
    const { manifest, layout, collector } = context;
    const { adapter, round } = lost.start;
    return collector.withScope(async (scope) => {
      await scope.hold(adapter.digest);
      const limits = { clock, ms: FETCH_MS, signal, what: 'fetching the newest adapter' };
      try {
        await withDeadline(limits, (inner) => network.fetchBlob(adapter, { holders, signal: inner }));
      } catch (error) {
        if (!isSwarmError(error, 'BLOB_UNAVAILABLE')) throw error;
        log.warn({ job, round, reason: error.message }, 'adapter-unavailable');
        return false;
      }
      const held = new Set<string>();
      for (const { checkpoint, digest, envelope } of lost.checkpoints) {
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

/**
 * Returns whether checkpoints of rounds before the newest round of the database may be missing from the recovered chain.
 * @param round the newest round of the database that has a checkpoint
 */
function mayBeLonger({ head, start, ancestor }: LostRecords, round: number): boolean {
  const isWhole = start.digest === head.checkpoint.digest;
  return ancestor === null || (!isWhole && head.checkpoint.round <= round);
}
