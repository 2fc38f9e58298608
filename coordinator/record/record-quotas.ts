import { FairQuota } from '../../common/limits/fair-quota.ts';
import type { Quota } from '../../common/limits/rate-limiter.ts';
import { netError } from '../../net/errors.ts';
import { RPC_TIMEOUT_MS } from '../../protocol/limits.ts';
import type { CoordinatorDeps, RunContext } from '../context.ts';

/** Settings of all quotas. */
const TURNS = {
  /** Maximum wait of a call: 2 s less than the time limit of a request, so that the answer arrives in time. */
  patienceMs: RPC_TIMEOUT_MS - 2_000,
  /** The answer to a call takes up to 25 ms. After 8 ms of such work, the event loop handles other work first. */
  sliceMs: 8,
};
/**
 * Limits on the calls of each method. An answer takes up to 11 ms (`record`) or 25 ms (`figures`).
 *
 * All peers that are not members share one limit (`strangers`), because one person can have any number of peers. All
 * members of a job share one limit too (`members`), because one person can join an open job with any number of nodes.
 * Each job has its own quota, so the members of an open job do not use up the quota of another job. A member's call
 * counts only if its answer is not in memory and not empty. For each method, the answers to strangers take at most 8 % of the
 * coordinator's thread, and the answers for one job at most 15 %.
 */
const LIMITS = {
  record: { strangers: { calls: 60, perMs: 10_000 }, members: { calls: 120, perMs: 10_000 } },
  figures: { strangers: { calls: 30, perMs: 10_000 }, members: { calls: 60, perMs: 10_000 } },
} as const;

interface Wait {
  readonly signal: AbortSignal;
  /**
   * Returns false if another call has put the same answer into memory meanwhile. The waiting call is then granted, and
   * does not count against the quota. @default always returns true
   */
  readonly isNeeded?: () => boolean;
}

/**
 * The quotas of a method whose answers take long. Network addresses share each quota fairly, so an address that makes few
 * calls is answered although another address makes calls without end.
 */
export class RecordQuotas {
  readonly #method: keyof typeof LIMITS;
  readonly #deps: Pick<CoordinatorDeps, 'clock' | 'network'>;
  readonly #strangers: FairQuota;
  /** The quotas of the members, by job. */
  readonly #members = new WeakMap<RunContext, FairQuota>();

  constructor(method: keyof typeof LIMITS, deps: Pick<CoordinatorDeps, 'clock' | 'network'>) {
    this.#method = method;
    this.#deps = deps;
    this.#strangers = new FairQuota({ ...LIMITS[method].strangers, ...TURNS }, deps);
  }

  /** Waits until a stranger may make a call. @throws RPC_RATE_LIMITED, or the signal's reason */
  async waitAsStranger(peer: string, { signal }: Wait): Promise<void> {
    if (await this.#strangers.take(this.#claim(peer, false), { signal })) return;
    throw this.#limited('peers that are not members', LIMITS[this.#method].strangers);
  }

  /** Waits until a member of a job may make a call. @throws RPC_RATE_LIMITED, or the signal's reason */
  async waitAsMember(peer: string, context: RunContext, wait: Wait): Promise<void> {
    const limit = LIMITS[this.#method].members;
    const quota = this.#members.get(context) ?? new FairQuota({ ...limit, ...TURNS }, this.#deps);
    this.#members.set(context, quota);
    if (await quota.take(this.#claim(peer, true), wait)) return;
    throw this.#limited('members', limit);
  }

  #claim(peer: string, known: boolean): { address: string; peer: string; known: boolean } {
    return { address: this.#deps.network.networkOf(peer), peer, known };
  }

  #limited(who: string, { calls, perMs }: Quota): Error {
    const text = `${who} make more than ${calls} calls of the method "${this.#method}" in ${perMs / 1000} s, so this call waited for too long`;
    return netError('RPC_RATE_LIMITED', text);
  }
}
