/** Limits of a {@link ByAddress}, to which strangers can add values. */
export interface ByAddressLimits {
  /** Maximum number of values. */
  readonly total: number;
  /** Maximum number of values from one network address. */
  readonly perAddress: number;
}

/**
 * Values of peers, oldest first. A new value displaces the oldest one from the same address, or the oldest of all if the
 * list is full, so that the identities at one address cannot displace the peers at others.
 */
export class ByAddress<T> {
  readonly #limits: ByAddressLimits;
  readonly #values = new Map<string, { readonly address: string; readonly value: T }>();

  constructor(limits: ByAddressLimits) {
    this.#limits = limits;
  }

  set(peer: string, address: string, value: T): void {
    const { total, perAddress } = this.#limits;
    this.#values.delete(peer);
    const neighbours = [...this.#values].filter(([, other]) => other.address === address);
    if (neighbours.length >= perAddress) this.#values.delete(neighbours[0]![0]);
    else if (this.#values.size >= total) this.#values.delete(this.#values.keys().next().value!);
    this.#values.set(peer, { address, value });
  }

  get(peer: string): T | undefined {
    return this.#values.get(peer)?.value;
  }

  delete(peer: string): void {
    this.#values.delete(peer);
  }

  values(): T[] {
    return [...this.#values.values()].map(({ value }) => value);
  }
}
