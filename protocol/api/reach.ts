import type { ReachResult } from '../requests/reach-request.ts';

/** A distance: where a peer is, or the greatest distance from which machines can connect to an address. */
export type Reach = 'this machine' | 'local network' | 'internet';

/** An address of this host, and whether another peer has reached this host there. */
export interface AddressReach {
  /** Multiaddr, ending in /p2p/<peer id>. */
  readonly address: string;
  /** Whether this host announces the address. If not, a peer sees this host connect from this IP address. */
  readonly announced: boolean;
  /** Which machines could connect to the address if nothing blocks it. */
  readonly reach: Reach;
  /**
   * The dial by the most distant peer. Among equally distant peers, a successful dial comes first, and then the newest
   * dial. null if no peer has dialled the address in the last hour.
   */
  readonly check: AddressCheck | null;
}

/** A dial by another peer. */
export interface AddressCheck {
  readonly result: ReachResult;
  /** Peer that dialled the address. */
  readonly peer: string;
  /** Where that peer is, as seen from this host. */
  readonly from: Reach;
  /** Seconds since the answer of the peer. */
  readonly secondsAgo: number;
}
