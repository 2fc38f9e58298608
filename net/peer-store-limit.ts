/** Peers that are no longer connected and of which something is remembered, such as where they can be dialled. */
const REMEMBERED_PEERS = 2048;

/**
 * Bounds what strangers leave behind: libp2p remembers whom it has met for hours, and an identity costs nothing. Beyond the
 * bound whoever has been gone longest is forgotten.
 */
export class PeerStoreLimit {
  readonly #forget: (peer: string) => void;
  /** Longest gone first. */
  readonly #gone = new Set<string>();

  constructor(deps: { forget: (peer: string) => void }) {
    this.#forget = deps.forget;
  }

  connected(peer: string): void {
    this.#gone.delete(peer);
  }

  disconnected(peer: string): void {
    this.#gone.delete(peer);
    this.#gone.add(peer);
    for (const oldest of this.#gone) {
      if (this.#gone.size <= REMEMBERED_PEERS) return;
      this.#gone.delete(oldest);
      this.#forget(oldest);
    }
  }
}
