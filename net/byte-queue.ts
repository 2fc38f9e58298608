import type { Claimant } from '../common/limits/fair-permits.ts';

/**
 * Ranks of peers, best first. `own` are this machine's transfers and the persistent peers, such as a node's coordinator.
 * `known` are other known peers, such as members of jobs. All other peers are strangers.
 */
export const RANKS = ['own', 'known', 'stranger'] as const;
export type Rank = (typeof RANKS)[number];

/** A peer that asks for bandwidth. */
export interface BandwidthClaimant extends Claimant {
  readonly rank: Rank;
}

/** Bytes that wait for bandwidth. */
interface WaitingBytes extends BandwidthClaimant {
  readonly bytes: number;
  readonly grant: () => void;
}

/**
 * Decides which bytes are sent next. A better rank always goes first. Within a rank, addresses take turns, and so do the
 * peers of an address. The claims of a peer keep their order.
 */
export class ByteQueue {
  readonly #ranks: Readonly<Record<Rank, RankQueue>> = {
    own: new RankQueue(),
    known: new RankQueue(),
    stranger: new RankQueue(),
  };

  get isEmpty(): boolean {
    return RANKS.every((rank) => this.#ranks[rank].bytes === 0);
  }

  /** Returns how many of the waiting bytes would be sent before further bytes of this peer. */
  bytesBefore(claimant: BandwidthClaimant): number {
    const better = RANKS.slice(0, RANKS.indexOf(claimant.rank));
    const bytes = better.reduce((sum, one) => sum + this.#ranks[one].bytes, 0);
    return bytes + this.#ranks[claimant.rank].bytesBefore(claimant);
  }

  /** Adds bytes to the queue. Returns a function that removes them. */
  add(waiting: WaitingBytes): () => void {
    const queue = this.#ranks[waiting.rank];
    queue.add(waiting);
    return () => queue.remove(waiting);
  }

  /** Removes and returns the bytes that are next; null if the queue is empty. */
  shift(): WaitingBytes | null {
    for (const rank of RANKS) {
      const next = this.#ranks[rank].shift();
      if (next !== null) return next;
    }
    return null;
  }
}

/**
 * The claims of one rank, by address and peer. The first address in the map has the next turn, and so does
 * the first peer of that address.
 */
class RankQueue {
  bytes = 0;
  readonly #addresses = new Map<string, Map<string, WaitingBytes[]>>();

  add(waiting: WaitingBytes): void {
    const { address, peer } = waiting;
    const peers = this.#addresses.get(address) ?? new Map<string, WaitingBytes[]>();
    this.#addresses.set(address, peers);
    const claims = peers.get(peer) ?? [];
    peers.set(peer, claims);
    claims.push(waiting);
    this.bytes += waiting.bytes;
  }

  remove(waiting: WaitingBytes): void {
    const { address, peer } = waiting;
    const peers = this.#addresses.get(address);
    const claims = peers?.get(peer);
    const index = claims?.indexOf(waiting) ?? -1;
    if (!peers || !claims || index < 0) return;
    claims.splice(index, 1);
    this.bytes -= waiting.bytes;
    if (claims.length === 0) peers.delete(peer);
    if (peers.size === 0) this.#addresses.delete(address);
  }

  bytesBefore({ address, peer }: Claimant): number {
    const peers = this.#addresses.get(address);
    const own = peers?.get(peer) ?? [];
    // Further bytes of this peer are sent in its turn number `own.length + 1`. By then, each other peer of the address
    // has had as many turns.
    const before = [...own];
    for (const [other, claims] of peers ?? []) {
      if (other !== peer) before.push(...claims.slice(0, own.length + 1));
    }
    const turn = before.length + 1;
    for (const [other, peersThere] of this.#addresses) {
      if (other !== address) before.push(...[...peersThere.values()].flat().slice(0, turn));
    }
    return before.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  shift(): WaitingBytes | null {
    for (const [address, peers] of this.#addresses) {
      for (const [peer, claims] of peers) {
        const next = claims[0]!;
        // Moving both entries to the end gives the next turns to other addresses and peers.
        peers.delete(peer);
        peers.set(peer, claims);
        this.#addresses.delete(address);
        this.#addresses.set(address, peers);
        this.remove(next);
        return next;
      }
    }
    return null;
  }
}
