/** Blobs that only one peer may fetch, while it works for the coordinator. They are not recorded in the database. */
export class OfferedBlobs {
  readonly #offers = new Map<string, string>();

  /** Returns whether a peer may fetch a blob. */
  isFor(peer: string, digest: string): boolean {
    return this.#offers.get(digest) === peer;
  }

  /** Lets a peer fetch a blob until `work` has ended. */
  async during<T>({ peer, digest }: { peer: string; digest: string }, work: () => Promise<T>): Promise<T> {
    this.#offers.set(digest, peer);
    try {
      return await work();
    } finally {
      this.#offers.delete(digest);
    }
  }
}
