import { type Quota, RateLimiter } from '../../common/limits/rate-limiter.ts';
import type { RunContext } from '../context.ts';
import { coordinatorError } from '../errors.ts';
import type { RoundDriver } from '../record/round-driver.ts';
import { IdentityRuns, type SignOfLife } from './identity-runs.ts';
import type { MemberList } from './member-list.ts';

/**
 * Limit on the events that say that two processes use one member's key. The store keeps each of these events.
 */
const DUPLICATES: Quota = { calls: 4, perMs: 60 * 60_000 };

interface ProcessesDeps {
  readonly context: RunContext;
  readonly driver: RoundDriver;
  readonly members: MemberList;
}

/**
 * Checks that only one process at a time uses the key of a member. If two processes use one key, for example
 * because the home was copied to a second machine, the later process is refused. If both processes worked,
 * they would sign two updates for one round, and the member would be banned.
 */
export class Processes {
  readonly #deps: ProcessesDeps;
  readonly runs: IdentityRuns;
  /**
   * Limits how often a second process with the key of a member is recorded. The keys of the limiter are peer
   * ids.
   */
  readonly #duplicates: RateLimiter;

  constructor(deps: ProcessesDeps) {
    this.#deps = deps;
    this.runs = new IdentityRuns(deps.context.deps);
    this.#duplicates = new RateLimiter(deps.context.deps);
  }

  /**
   * Notes a request of a process of a member.
   * @param run random id of the process; undefined if the caller sent none
   * @throws SwarmError DUPLICATE_IDENTITY if another process with the same key began earlier and still runs
   */
  check(peer: string, run: string | undefined): void {
    if (run === undefined || !this.#deps.members.has(peer)) return;
    if (!this.noteHeartbeat({ peer, run })) throw this.#duplicate(peer);
  }

  /**
   * Notes that a process asks to join. A peer that is not a member yet is not checked.
   * @param run random id of the process; undefined if the caller sent none
   * @throws SwarmError DUPLICATE_IDENTITY as `check`; IDENTITY_IN_USE if another process may still run
   */
  checkJoining(peer: string, run: string | undefined): void {
    const member = this.#deps.members.get(peer);
    if (run === undefined || member === null) return;
    const verdict = this.runs.join({ peer, run });
    if (verdict === 'later') throw this.#duplicate(peer);
    if (verdict === 'admitted') return;
    const { name } = member;
    throw coordinatorError(
      'IDENTITY_IN_USE',
      `another process used the key of this node ("${name}") a few seconds ago; if that process has ended, try again`,
      { peer, name },
    );
  }

  /** Notes a heartbeat. Returns false if it does not count, because another process began earlier and still runs. */
  noteHeartbeat(sign: SignOfLife): boolean {
    const verdict = this.runs.note(sign);
    const { peer } = sign;
    const { members, driver } = this.#deps;
    if (verdict === 'proven' && this.#duplicates.take(peer, DUPLICATES)) {
      const { name } = members.get(peer)!;
      const since = this.runs.duplicateSince(peer)!;
      driver.transact((outbox) => outbox.event({ type: 'duplicate-identity', peer, name, since }));
    }
    return verdict !== 'later';
  }

  /**
   * Returns the start, in ms since the epoch, of a later process with the key of the caller. Returns null if there is
   * none, if the caller is not the earliest process, or if an earlier call has returned this start already.
   */
  takeNotice(peer: string, run: string | undefined): number | null {
    return run === undefined ? null : this.runs.takeNotice({ peer, run });
  }

  #duplicate(peer: string): Error {
    const { name } = this.#deps.members.get(peer)!;
    const since = new Date(this.runs.earliestSince(peer)!).toISOString();
    return coordinatorError(
      'DUPLICATE_IDENTITY',
      `another process has used the key of this node ("${name}") since ${since}, and still runs; two nodes must not have the same key`,
      { peer, name, since },
    );
  }
}
