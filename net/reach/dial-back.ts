import type { FairPermits } from '../../common/limits/fair-permits.ts';
import { RateLimiter } from '../../common/limits/rate-limiter.ts';
import type { Clock } from '../../common/time/clock.ts';
import { withDeadline } from '../../common/time/deadline.ts';
import { DIAL_TIMEOUT_MS } from '../../protocol/limits.ts';
import { type ReachResult, reachResults } from '../../protocol/requests/reach-request.ts';
import type { RpcRequest, RpcResponse } from '../../protocol/requests/rpc.ts';
import { connectError } from '../addresses.ts';
import { netError } from '../errors.ts';
import type { Probe } from '../libp2p/probe.ts';
import { networkOfIp } from '../libp2p/remote-network.ts';

/**
 * Maximum number of requests `reach` of all callers at one address. Each host asks every 10 minutes, so 60 machines behind
 * one router get an answer each time.
 */
export const REACH_QUOTA = { calls: 6, perMs: 60_000 };

export interface DialBackDeps {
  clock: Clock;
  /** Permits for requests whose dials are in progress, shared fairly between addresses. */
  permits: FairPermits;
  /** Returns whether a peer is a member of a job, or the coordinator of this node. */
  isKnown(peer: string): boolean;
  probe: Probe;
}

/**
 * Answers requests `reach`: dials the caller, so that the caller learns whether other peers can connect to it. The host
 * dials only the IP address from which the caller is connected. The caller learns only whether it answered there with
 * its own key, and if not, why not. The request is therefore useless against other machines.
 */
export class DialBack {
  readonly #deps: DialBackDeps;
  readonly #limiter: RateLimiter;

  constructor(deps: DialBackDeps) {
    this.#deps = deps;
    this.#limiter = new RateLimiter(deps);
  }

  /** @throws SwarmError DIAL_BACK_REFUSED, RPC_RATE_LIMITED, RPC_BUSY, or the signal's reason */
  async answer(
    peer: string,
    { ports }: RpcRequest<'reach'>,
    { ip, signal }: { ip: string | null; signal: AbortSignal },
  ): Promise<RpcResponse<'reach'>> {
    const { permits, isKnown } = this.#deps;
    if (ip === null) {
      throw netError(
        'DIAL_BACK_REFUSED',
        'the connection is relayed, so the address of the caller is unknown',
      );
    }
    if (!isKnown(peer)) {
      throw netError('DIAL_BACK_REFUSED', 'this peer dials only members of its jobs, and its coordinators');
    }
    const address = networkOfIp(ip);
    if (!this.#limiter.take(address, REACH_QUOTA)) {
      const { calls, perMs } = REACH_QUOTA;
      throw netError(
        'RPC_RATE_LIMITED',
        `more than ${calls} requests "reach" from your address in ${perMs / 1000} s`,
      );
    }
    const withdrawn = new AbortController();
    const busy = netError('RPC_BUSY', 'this peer already dials as many peers of your address as it can');
    const release = permits.take({ address, peer }, () => withdrawn.abort(busy));
    if (release === null) throw busy;
    try {
      const all = AbortSignal.any([signal, withdrawn.signal]);
      const results = [...new Set(ports)].map(async (port) => {
        const target = `/${ip.includes(':') ? 'ip6' : 'ip4'}/${ip}/tcp/${port}/p2p/${peer}`;
        return { port, result: await this.#dial(target, all) };
      });
      return { ip, results: await Promise.all(results) };
    } finally {
      release();
    }
  }

  async #dial(address: string, signal: AbortSignal): Promise<ReachResult> {
    const { clock, probe } = this.#deps;
    const deadline = { clock, ms: DIAL_TIMEOUT_MS, signal, what: `connecting to ${address}` };
    try {
      await withDeadline(deadline, (inner) => probe(address, inner));
      return 'reached';
    } catch (cause) {
      signal.throwIfAborted();
      const { reason } = connectError(address, cause).values;
      return reachResults.find((result) => result === reason) ?? 'failed';
    }
  }
}
