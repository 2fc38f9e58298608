import { isSwarmError } from '../../common/errors.ts';
import { withDeadline } from '../../common/time/deadline.ts';
import { callTimeoutMs } from '../../protocol/requests/rpc.ts';
import type { CoordinatorDeps } from '../context.ts';
import type { JobRun } from '../job-run.ts';
import { bannedEvent } from '../trust/bans.ts';
import { verified } from './lost-records.ts';
import { type MissingRemovals, missingRemovals, restoreRemovals } from './lost-removals.ts';

/** Minimum time between two requests to a member that has not answered. */
const RETRY_MS = 60_000;
/**
 * Maximum number of remembered members. The limit bounds the memory, because one person can join an open job with any
 * number of members.
 */
const REMEMBERED = 8192;

interface Deps extends Pick<CoordinatorDeps, 'network' | 'clock' | 'log'> {
  readonly signal: AbortSignal;
  /** The running jobs, by digest. */
  readonly runs: ReadonlyMap<string, JobRun>;
}

/**
 * Restores removals (revoked invites and bans) that this coordinator has lost, from the records that its members keep.
 * After a restore from an old backup, the nodes that answer first may have no record, because a removed person can be
 * among them. The coordinator therefore asks each member once for its record, also after it has caught up.
 */
export class KeptRemovals {
  readonly #deps: Deps;
  /** Time until which each member need not be asked again, by job and peer, on the monotonic clock. */
  readonly #until = new Map<string, number>();
  /**
   * For each address that the coordinator is asking: the member that is asked, and a promise that resolves
   * when the request has ended. The coordinator asks only one member of an address at a time.
   */
  readonly #asking = new Map<string, { key: string; done: Promise<void> }>();

  constructor(deps: Deps) {
    this.#deps = deps;
  }

  /**
   * Asks a member for the record of removals that the member keeps, if this coordinator may lack some of the removals,
   * and waits for the answer. Without the wait, this coordinator's answer would give the member the newest job key but
   * no newer record, and the member would have no reason to ask again soon.
   * @param kept number of the record that the member keeps
   * @returns whether the member may replace its record, because this coordinator has all removals of the record
   */
  async note(run: JobRun, peer: string, kept: number): Promise<boolean> {
    if (kept === 0) return true;
    const { job, keys, stored } = run.context;
    // In term 1, this coordinator has not recovered from a backup yet, so it has every record up to its own number. A
    // recovery raises the term. After that, the coordinator may lack a record, although its own number is higher than
    // the number of that record.
    if (stored.term === 1 && kept <= keys.removals) return true;
    const { network, clock, log, signal } = this.#deps;
    const key = `${job} ${peer}`;
    const isDone = (): boolean => this.#until.get(key) === Number.POSITIVE_INFINITY;
    if (isDone()) return true;
    const address = network.networkOf(peer);
    const asking = this.#asking.get(address);
    if (asking?.key === key) {
      await asking.done;
      return isDone();
    }
    if (clock.monotonic() < (this.#until.get(key) ?? 0) || asking !== undefined || signal.aborted)
      return false;
    this.#remember(key, clock.monotonic() + RETRY_MS);
    const done = this.#ask(run, peer)
      .then((isAnswered) => {
        if (isAnswered) this.#remember(key, Number.POSITIVE_INFINITY);
      })
      .catch((error: unknown) => log.debug({ job, peer, error }, 'removals-not-recalled'))
      .finally(() => this.#asking.delete(address));
    this.#asking.set(address, { key, done });
    await done;
    return isDone();
  }

  /**
   * Asks a member for its record, and adds the removals in the record to the database. Returns false if the
   * job was stopped or started again meanwhile.
   * @throws the error of the request if the member does not answer
   */
  async #ask({ context: { job }, record }: JobRun, peer: string): Promise<boolean> {
    const { network, clock, signal, runs } = this.#deps;
    const limits = { clock, ms: callTimeoutMs('recall'), signal, what: 'the request "recall"' };
    const after = record.checkpoint.checkpoint.round;
    const answer = await withDeadline(limits, (inner) =>
      network.request(peer, 'recall', { job, after }, { signal: inner }),
    );
    // Look up the run again, because the job may have been started again while the answer was awaited.
    const run = runs.get(job);
    if (run === undefined || run.context.signal.aborted) return false;
    if (answer.removals !== undefined) this.#restore(run, answer.removals);
    return true;
  }

  #restore(run: JobRun, envelope: Uint8Array): void {
    const { network, log } = this.#deps;
    const { context, driver, members } = run;
    const { job, keys, enforcement } = context;
    const found = verified('removals', envelope);
    if (found?.author !== network.signer.peerId || found.message.job !== job) return;
    const { sequence, sealed } = found.message;
    let missing: MissingRemovals;
    try {
      missing = missingRemovals(sealed, context);
    } catch (error) {
      if (!isSwarmError(error)) throw error;
      log.error({ job, error }, 'removals-unreadable');
      return;
    }
    const { invites, shared, bans } = missing;
    if (invites.length + bans.length === 0 && shared === null && sequence <= keys.removals) return;
    driver.transact((outbox) => {
      restoreRemovals(missing, context);
      for (const ban of bans) {
        enforcement.changeKeys(ban);
        outbox.event(bannedEvent(ban));
      }
      // The rotation raises the number of removals. All nodes then fetch the record with all removals.
      keys.rotate({ after: sequence });
    });
    members.removals.carryOut(missing);
  }

  #remember(key: string, until: number): void {
    this.#until.delete(key);
    this.#until.set(key, until);
    if (this.#until.size > REMEMBERED) this.#until.delete(this.#until.keys().next().value!);
  }
}
