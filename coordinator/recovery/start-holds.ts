import { sleep } from '../../common/time/deadline.ts';
import type { CoordinatorDeps } from '../context.ts';
import type { JobRun } from '../job-run.ts';
import type { LaterHeads } from './later-heads.ts';

/**
 * Maximum time for which a job waits for its nodes after a restart of the coordinator. Nodes connect again within a minute.
 * If no node is left, the coordinator merges the updates that it has.
 */
const HOLD_MS = 2 * 60_000;
/** Time that further nodes get to report a later head, after enough nodes and all nodes of the round have connected. */
const GATHER_MS = 2_000;
/** Maximum time for which a job with enough nodes waits for the other nodes of the round. One of them may be gone. */
const ROUND_MS = 10_000;

interface Deps extends Pick<CoordinatorDeps, 'clock' | 'log'> {
  /** Whether jobs wait for their nodes. */
  readonly awaitsNodes: boolean;
  readonly laterHeads: Pick<LaterHeads, 'claims' | 'isBehind' | 'isStopping' | 'carryOutStop' | 'settled'>;
  /** Called when the hold of a job has ended. */
  readonly onReleased: () => void;
}

/**
 * Holds the jobs of a restarted coordinator until their nodes have connected, because its database may be an old
 * backup. Without the hold, the coordinator could merge a round for the second time before a node reports the later
 * head. The head of the coordinator would then not be older than the heads of the nodes, so the coordinator would not
 * notice that its database is old.
 */
export class StartHolds {
  readonly #deps: Deps;
  /** The members that have connected since the restart, for each job that is held. */
  readonly #connected = new Map<JobRun, Set<string>>();

  /** Jobs with enough members that wait for the other nodes of the round. */
  readonly #waiting = new WeakSet<JobRun>();

  constructor(deps: Deps) {
    this.#deps = deps;
  }

  /**
   * Continues a job. A job that has signed only its first head is not held, unless it is known to be behind (see `StopOrders`).
   */
  start(run: JobRun): void {
    const { awaitsNodes, laterHeads } = this.#deps;
    const { job } = run.context;
    const held = laterHeads.isBehind(job) || (awaitsNodes && run.record.heads.newest.head.sequence > 1);
    run.start({ held });
    if (!held) {
      laterHeads.carryOutStop(job);
      return;
    }
    this.#connected.set(run, new Set());
    void this.#release(run, HOLD_MS);
  }

  /**
   * Notes that a peer has connected. The hold ends soon after enough members and all members with work in the newest head
   * have connected. A node with a later head reports the head at once when it connects.
   */
  note(run: JobRun, peer: string): void {
    const connected = this.#connected.get(run);
    const { members } = run;
    if (connected === undefined || members.list.get(peer)?.role === 'observer' || !members.list.has(peer))
      return;
    connected.add(peer);
    const isMissing = (member: { peer: string }): boolean =>
      members.list.has(member.peer) && !connected.has(member.peer);
    if (connected.size < run.context.settings.newest.minPeers) return;
    if (!run.record.heads.newest.head.assignments.some(isMissing)) {
      this.#connected.delete(run);
      void this.#release(run, GATHER_MS);
    } else if (!this.#waiting.has(run)) {
      this.#waiting.add(run);
      void this.#release(run, ROUND_MS);
    }
  }

  /**
   * Ends the hold of a job after `ms` milliseconds, unless a node has proven a later head that could not be adopted
   * yet. Then carries out the operator's order to stop the job, if there is one.
   */
  async #release(run: JobRun, ms: number): Promise<void> {
    const { clock, log, laterHeads, onReleased } = this.#deps;
    const { job, signal } = run.context;
    try {
      await sleep(clock, ms, signal);
      laterHeads.claims.askConnected(run);
      await laterHeads.settled(job);
      const isBehind = laterHeads.isBehind(job);
      if (!isBehind) run.driver.release();
      else if (!laterHeads.isStopping(job)) log.error({ job }, 'held-behind-nodes');
      laterHeads.carryOutStop(job);
      if (!isBehind) onReleased();
    } catch (error) {
      if (!signal.aborted) log.error({ job, error }, 'not-released');
    }
    this.#connected.delete(run);
  }
}
