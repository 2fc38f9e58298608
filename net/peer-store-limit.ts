/** Disconnected peers that stay in libp2p's peer store. */
const DISCONNECTED_PEERS = 2048;

/**
 * Bounds libp2p's peer store, which keeps each peer for hours, while a new identity costs an attacker nothing. The peer that
 * disconnected first is forgotten first.
 */
export class PeerStoreLimit {
  readonly #forget: (peer: string) => void;
  /** In the order of disconnecting. */
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
