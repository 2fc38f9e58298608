/** A peer that claims a permit. */
export interface Claimant {
  /** Network address of the claimant. All claims from one address together get one share. */
  readonly address: string;
  /**
   * Identity of the claimant; empty while it is unknown. The share of an address is split evenly among its identities.
   */
  readonly peer: string;
}

export interface FairPermitsOptions {
  /** Maximum number of permits that are held at the same time. */
  readonly total: number;
  /** Number of permits that are guaranteed to known claimants. The rest of `total` is guaranteed to strangers. */
  readonly reserved: number;
  /** Which of its permits an identity loses first to another claimant: the oldest or the newest. */
  readonly withdraws: 'oldest' | 'newest';
}

export interface FairPermitsDeps {
  /** Returns whether a claimant is known, for example as a member of a job. All other claimants are strangers. */
  knows(claimant: Claimant): boolean;
  /** Called when a claim was refused, and when a permit was withdrawn in favour of another claimant. */
  onRefusal(reason: 'full' | 'withdrawn'): void;
}

interface Permit extends Claimant {
  readonly withdraw: () => void;
  group: Group;
}

/**
 * Permits that are shared fairly between addresses, and between the identities of an address. A claim never waits,
 * because it is granted or refused immediately.
 *
 * While permits are free, every claim is granted, so the machines behind one router can hold all permits. When no
 * permit is free, the address with the most permits loses one to an address with fewer permits. Routers call this
 * policy "longest queue drop". A claimant that is alone at its address therefore cannot be crowded out: its claim is
 * granted as long as another address holds at least two permits more than its own. All known claimants together have a
 * guaranteed number of permits, and so have all strangers together. Each of these two groups may also use permits that
 * the other group leaves free.
 */
export class FairPermits {
  readonly #options: FairPermitsOptions;
  readonly #deps: FairPermitsDeps;
  readonly #known = new Group();
  readonly #strangers = new Group();

  constructor(options: FairPermitsOptions, deps: FairPermitsDeps) {
    this.#options = options;
    this.#deps = deps;
  }

  /** Number of permits that all claimants together hold. */
  get size(): number {
    return this.#known.size + this.#strangers.size;
  }

  /**
   * Claims a permit. Returns a function that releases it, or null if the claim is refused.
   * @param withdraw called at most once, after the permit was withdrawn. The holder has to end its work.
   */
  take({ address, peer }: Claimant, withdraw: () => void): (() => void) | null {
    const group = this.#groupOf({ address, peer });
    if (this.size >= this.#options.total && !this.#withdrawFor({ address, peer }, group)) {
      this.#deps.onRefusal('full');
      return null;
    }
    const permit: Permit = { address, peer, withdraw, group };
    group.add(permit);
    return () => permit.group.delete(permit);
  }

  /** Withdraws a permit in favour of a claimant. Returns false if the claimant already has its share. */
  #withdrawFor(claimant: Claimant, group: Group): boolean {
    const other = group === this.#known ? this.#strangers : this.#known;
    for (;;) {
      // All permits are held at this point. If the claimant's group holds fewer permits than its guarantee, the other
      // group therefore holds more than its own guarantee.
      const permits = group.size < this.#guaranteed(group) ? other.most() : group.rival(claimant);
      const permit = this.#options.withdraws === 'oldest' ? permits.at(0) : permits.at(-1);
      if (permit === undefined) return false;
      permit.group.delete(permit);
      const now = this.#groupOf(permit);
      if (permit.group === now) {
        this.#deps.onRefusal('withdrawn');
        permit.withdraw();
        return true;
      }
      // The holder has changed its group after it took the permit: it became a known peer or a stranger. The permit is
      // still counted in the old group.
      permit.group = now;
      now.add(permit);
    }
  }

  #groupOf(claimant: Claimant): Group {
    return this.#deps.knows(claimant) ? this.#known : this.#strangers;
  }

  #guaranteed(group: Group): number {
    const { total, reserved } = this.#options;
    return group === this.#known ? reserved : total - reserved;
  }
}

/** The permits of all known claimants, or of all strangers. */
class Group {
  size = 0;
  readonly #addresses = new Map<string, AddressPermits>();

  add(permit: Permit): void {
    const held = this.#addresses.get(permit.address) ?? new AddressPermits();
    this.#addresses.set(permit.address, held);
    held.add(permit);
    this.size++;
  }

  /** Removes a permit, if it is present. */
  delete(permit: Permit): void {
    const held = this.#addresses.get(permit.address);
    if (!held?.delete(permit)) return;
    this.size--;
    if (held.size === 0) this.#addresses.delete(permit.address);
  }

  /**
   * Finds the address that holds the most permits, and the peer id that holds the most permits of this address. Returns
   * the permits of this peer id, oldest first.
   */
  most(): Permit[] {
    return largest(this.#addresses.values())?.most() ?? [];
  }

  /**
   * Returns the permits, oldest first, of the peer that must give a permit to a claimant. Returns an empty
   * list if the claimant already has its share. After giving a permit away, the peer still holds at least as
   * many permits as the claimant. Otherwise the two peers could take the same permit from each other again
   * and again.
   */
  rival({ address, peer }: Claimant): Permit[] {
    const own = this.#addresses.get(address);
    const rich = largest(this.#addresses.values());
    if (rich !== undefined && rich.size >= (own?.size ?? 0) + 2) return rich.most();
    const permits = own?.most() ?? [];
    return permits.length >= (own?.sizeOf(peer) ?? 0) + 2 ? permits : [];
  }
}

class AddressPermits {
  size = 0;
  readonly #peers = new Map<string, Set<Permit>>();

  add(permit: Permit): void {
    const held = this.#peers.get(permit.peer) ?? new Set();
    this.#peers.set(permit.peer, held);
    held.add(permit);
    this.size++;
  }

  delete(permit: Permit): boolean {
    const held = this.#peers.get(permit.peer);
    if (!held?.delete(permit)) return false;
    this.size--;
    if (held.size === 0) this.#peers.delete(permit.peer);
    return true;
  }

  sizeOf(peer: string): number {
    return this.#peers.get(peer)?.size ?? 0;
  }

  most(): Permit[] {
    return [...(largest(this.#peers.values()) ?? [])];
  }
}

function largest<T extends { readonly size: number }>(groups: Iterable<T>): T | undefined {
  let most: T | undefined;
  for (const group of groups) if (most === undefined || group.size > most.size) most = group;
  return most;
}
