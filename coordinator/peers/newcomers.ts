import { FairQuota } from '../../common/limits/fair-quota.ts';
import type { Quota } from '../../common/limits/rate-limiter.ts';
import type { Clock } from '../../common/time/clock.ts';
import { ROUND_PEERS, RPC_TIMEOUT_MS } from '../../protocol/limits.ts';
import { coordinatorError } from '../errors.ts';

/**
 * Limit on nodes that join a job for the first time, for all jobs together. It allows 1,024 nodes at once, twice as
 * many as a round can have, and then 51 per second. The limit is needed because each newcomer is written to disk, which
 * takes about a millisecond, and a new identity costs an attacker nothing.
 */
export const NEWCOMERS: Quota = { calls: 2 * ROUND_PEERS, perMs: 20_000 };
/** Maximum wait of a newcomer: 2 s less than the time limit of its request, so that the answer arrives in time. */
export const PATIENCE_MS = RPC_TIMEOUT_MS - 2_000;

/**
 * The line in which newcomers of all jobs wait. A newcomer here is a node that joins a job for the first time. When
 * more nodes join than the limit allows, the network addresses take turns, and the nodes at one address take turns
 * among themselves. A node that is alone at its address therefore waits for at most one newcomer of each other address.
 */
export class Newcomers {
  readonly #quota: FairQuota;
  readonly #network: { networkOf(peer: string): string };

  constructor({ clock, network }: { clock: Clock; network: { networkOf(peer: string): string } }) {
    this.#network = network;
    // `sliceMs` limits how long turns block the event loop. These turns need no limit, because they only wait, and the
    // event loop runs meanwhile.
    this.#quota = new FairQuota({ ...NEWCOMERS, patienceMs: PATIENCE_MS, sliceMs: Infinity }, { clock });
  }

  /**
   * Waits until a newcomer may join.
   * @param signal aborts when the request of the newcomer ends. The newcomer then leaves the line
   * @throws SwarmError BUSY after PATIENCE_MS, or if the peer sends a second request meanwhile; the signal's reason
   */
  async wait(peer: string, signal: AbortSignal): Promise<void> {
    const claim = { address: this.#network.networkOf(peer), peer, known: false };
    if (!(await this.#quota.take(claim, { signal }))) throw busy();
  }
}

function busy(): Error {
  return coordinatorError(
    'BUSY',
    'too many nodes are joining at the moment; the node tries again automatically',
  );
}
