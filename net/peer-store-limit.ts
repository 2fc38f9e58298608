/** Maximum number of disconnected peers that stay in libp2p's peer store. */
const DISCONNECTED_PEERS = 2048;

/**
 * Limits the size of libp2p's peer store. libp2p keeps each peer for hours, and an attacker can create identities at no
 * cost. The peer that disconnected first is forgotten first.
 */
export class PeerStoreLimit {
  readonly #forget: (peer: string) => void;
  /** Peer ids, in the order in which the peers disconnected. */
  readonly #disconnected = new Set<string>();

  constructor(deps: { forget: (peer: string) => void }) {
    this.#forget = deps.forget;
  }

  connected(peer: string): void {
    this.#disconnected.delete(peer);
  }

  disconnected(peer: string): void {
    this.#disconnected.delete(peer);
    this.#disconnected.add(peer);
    for (const oldest of this.#disconnected) {
      if (this.#disconnected.size <= DISCONNECTED_PEERS) return;
      this.#disconnected.delete(oldest);
      this.#forget(oldest);
    }
  }
}
