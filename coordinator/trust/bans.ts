import { formatDuration } from '../../common/text.ts';
import type { JobEventBody } from '../../protocol/api/job-events.ts';
import type { RunContext } from '../context.ts';
import { coordinatorError } from '../errors.ts';
import type { StoredBan } from '../store/store.ts';
import type { Who } from './who.ts';

/** Receives the events of a transaction, and actions that run after the transaction. */
export interface Announcements {
  event(body: JobEventBody): void;
  afterwards(action: () => void): void;
}

/** The bans that apply to a job: bans from this job, and bans from all jobs of the coordinator. */
export class Bans {
  readonly #context: RunContext;

  constructor(deps: { context: RunContext }) {
    this.#context = deps.context;
  }

  /**
   * Bans a person from one job or from all jobs. The same transaction records the ban and changes the job keys that the
   * person has, so a crash cannot separate these two steps.
   * @param outbox outbox of the transaction that records the cause of the ban
   */
  impose(
    { peer, person }: Who,
    ban: Pick<StoredBan, 'cause' | 'job' | 'reason' | 'until'>,
    outbox: Announcements,
  ): void {
    const { deps, enforcement } = this.#context;
    const concerned = { peer, person, job: ban.job };
    deps.store.bans.insertOnce({ peer, person, ...ban, at: deps.clock.now() });
    enforcement.changeKeys(concerned);
    outbox.event(bannedEvent({ peer, ...ban }));
    outbox.afterwards(() => enforcement.remove(concerned));
  }

  /** Returns the ban that keeps a person out of this job for the longest time; null if the person may take part. */
  find(who: Who): StoredBan | null {
    const { job, deps } = this.#context;
    return deps.store.bans.find(job, who, deps.clock.now());
  }

  isBanned(who: Who): boolean {
    return this.find(who) !== null;
  }

  /** Checks that a person is not banned. @throws SwarmError BANNED */
  check(who: Who): void {
    const ban = this.find(who);
    if (ban !== null) throw bannedError(ban, this.#context.deps.clock.now());
  }
}

/** Returns the event of a ban in one of the jobs to which the ban applies. */
export function bannedEvent({
  peer,
  cause,
  job,
  reason,
  until,
}: Pick<StoredBan, 'peer' | 'cause' | 'job' | 'reason' | 'until'>): JobEventBody {
  return { type: 'banned', peer, cause, reason, until, scope: job === null ? 'all-jobs' : 'job' };
}

/** Returns the error that a banned node gets. */
function bannedError({ reason, until }: StoredBan, now: number) {
  const end =
    until === null
      ? 'for good'
      : `until ${new Date(until).toISOString()}, which is in ${formatDuration((until - now) / 1000)}`;
  return coordinatorError('BANNED', `this node is banned ${end}: ${reason}`, { until, reason });
}
