import { FairQuota, type FairQuotaOptions } from '../../common/limits/fair-quota.ts';
import { netError } from '../../net/errors.ts';
import { RPC_TIMEOUT_MS } from '../../protocol/limits.ts';
import type { CoordinatorDeps, RunContext } from '../context.ts';

/** Settings of both quotas. */
const TURNS = {
  /** Maximum wait of a call: 2 s less than the time limit of a request, so that the answer arrives in time. */
  patienceMs: RPC_TIMEOUT_MS - 2_000,
  /** The answer to a call takes up to 11 ms. After 8 ms of such work, the event loop handles other work first. */
  sliceMs: 8,
};
/**
 * Limit on the calls of the method `record` by peers that are not members of the job. All these peers share one limit,
 * because one person can have any number of peers. The answers take at most 7 % of the coordinator's thread.
 */
const STRANGERS_RECORDS: FairQuotaOptions = { calls: 60, perMs: 10_000, ...TURNS };
/**
 * Limit on the calls of the method `record` by the members of a job. A call counts only if its answer is not in memory.
 * All members share one limit, because one person can join an open job with any number of nodes. Each job has its own
 * quota, so the members of an open job do not use up the quota of another job. The answers for one job take at most 13
 * % of the coordinator's thread.
 */
const MEMBERS_RECORDS: FairQuotaOptions = { calls: 120, perMs: 10_000, ...TURNS };

interface Wait {
  readonly signal: AbortSignal;
  /**
   * Returns false if another call has put the same answer into memory meanwhile. The waiting call is then granted, and
   * does not count against the quota. @default always returns true
   */
  readonly isNeeded?: () => boolean;
}

/**
 * The two quotas of the method `record`. Network addresses share each quota fairly, so an address that makes few calls is
 * answered although another address makes calls without end.
 */
export class RecordQuotas {
  readonly #deps: Pick<CoordinatorDeps, 'clock' | 'network'>;
  readonly #strangers: FairQuota;
  /** The quotas of the members, by job. */
  readonly #members = new WeakMap<RunContext, FairQuota>();

  constructor(deps: Pick<CoordinatorDeps, 'clock' | 'network'>) {
    this.#deps = deps;
    this.#strangers = new FairQuota(STRANGERS_RECORDS, deps);
  }

  /** Waits until a stranger may make a call. @throws RPC_RATE_LIMITED, or the signal's reason */
  async waitAsStranger(peer: string, { signal }: Wait): Promise<void> {
    if (await this.#strangers.take(this.#claim(peer, false), { signal })) return;
    throw limited('peers that are not members', STRANGERS_RECORDS);
  }

  /** Waits until a member of a job may make a call. @throws RPC_RATE_LIMITED, or the signal's reason */
  async waitAsMember(peer: string, context: RunContext, wait: Wait): Promise<void> {
    const quota = this.#members.get(context) ?? new FairQuota(MEMBERS_RECORDS, this.#deps);
    this.#members.set(context, quota);
    if (await quota.take(this.#claim(peer, true), wait)) return;
    throw limited('members', MEMBERS_RECORDS);
  }

  #claim(peer: string, known: boolean): { address: string; peer: string; known: boolean } {
    return { address: this.#deps.network.networkOf(peer), peer, known };
  }
}

function limited(who: string, { calls, perMs }: FairQuotaOptions): Error {
  const text = `${who} make more than ${calls} calls of the method "record" in ${perMs / 1000} s, so this call waited for too long`;
  return netError('RPC_RATE_LIMITED', text);
}
