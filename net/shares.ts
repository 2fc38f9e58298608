import { type Claimant, FairPermits, type FairPermitsOptions } from '../common/limits/fair-permits.ts';
import { ROUND_PEERS } from '../protocol/limits.ts';
import type { Rank } from './byte-queue.ts';
import type { NetworkMeter, SharedQueue } from './meter.ts';

/**
 * The number of places in each queue, and how many of them are reserved for known peers. No limit per address or
 * identity is needed, because {@link FairPermits} divides a full queue evenly between addresses.
 */
const QUEUES: Readonly<Record<SharedQueue, FairPermitsOptions>> = {
  /**
   * Inbound connections in the handshake. Each costs a socket, a few kilobytes and a key exchange. The identity of the
   * peer is not known yet, so the reserve is for addresses of known peers. Known peers need the reserve when many of
   * them reconnect at the same time.
   */
  handshakes: { total: 256, reserved: 128, withdraws: 'oldest' },
  /**
   * Open inbound connections: two for each node of a full round, because a node may reconnect, and 256 for strangers. A
   * connected peer keeps its connection unless its address holds more connections than other addresses.
   */
  connections: { total: 2 * ROUND_PEERS + 256, reserved: 2 * ROUND_PEERS, withdraws: 'newest' },
  /**
   * Inbound streams of all protocols, including the protocols of libp2p. An honest peer uses about ten. An open stream
   * that sends nothing takes 8 KB of the heap, so all of them take at most 70 MB.
   */
  streams: { total: 8192, reserved: 6144, withdraws: 'newest' },
  /** Inbound calls, from the opening of their stream to the answer. Each may hold a request and an answer in memory. */
  calls: { total: 256, reserved: 128, withdraws: 'oldest' },
  /**
   * Requests `reach` whose dials are in progress. Each has up to four sockets for up to 5 s. Strangers have no places,
   * because their requests are refused.
   */
  'dial-backs': { total: 16, reserved: 16, withdraws: 'oldest' },
  /**
   * Ranges of blobs that are being sent. The blocks that wait to be sent take half a MiB for each range, 32 MiB in total.
   */
  ranges: { total: 64, reserved: 32, withdraws: 'oldest' },
  /**
   * Memory of gossip RPCs that arrive or wait to be handled, in units of 256 KiB (gossip-memory.ts), 128 MiB in total.
   * This is enough if all updates of a full round arrive at the same time.
   */
  gossip: { total: ROUND_PEERS, reserved: (3 * ROUND_PEERS) / 4, withdraws: 'oldest' },
};
/**
 * Buffers of 1.25 MiB that blob streams keep between requests. The buffers are shared like the places of a queue. The
 * meter does not count a stream that gets no buffer as refused, because the stream is still served, only more slowly.
 */
const BUFFERS: FairPermitsOptions = { total: 32, reserved: 16, withdraws: 'oldest' };

/**
 * Bytes that arrived on inbound streams and that have not been read yet, in units of 64 KiB (libp2p/unread-bytes.ts).
 * Known peers may have 320 MiB, because each gossip stream holds up to 576 KiB when all nodes of a full round send
 * large messages at the same time. Strangers may have 32 MiB. Strangers never get the memory that known peers leave
 * free, because an attacker would fill it.
 */
const UNREAD_OF_KNOWN = 10 * ROUND_PEERS;
const UNREAD_OF_STRANGERS = 512;

/**
 * Maximum number of addresses of known peers that are remembered. Above this number, the address that was
 * seen least recently is forgotten.
 */
const KNOWN_ADDRESSES = 2 * ROUND_PEERS;

export interface SharesDeps {
  meter: NetworkMeter;
}

/** The queues of a host that any peer can enter, each with fair shares and a reserve for known peers. */
export class Shares {
  readonly handshakes: FairPermits;
  readonly connections: FairPermits;
  readonly streams: FairPermits;
  readonly calls: FairPermits;
  readonly dialBacks: FairPermits;
  readonly ranges: FairPermits;
  readonly gossip: FairPermits;
  readonly buffers: FairPermits;
  readonly #unreadOfKnown: FairPermits;
  readonly #unreadOfStrangers: FairPermits;
  /** Returns whether a peer is known. Some places are reserved for known peers. */
  isKnown: (peer: string) => boolean = () => false;
  /** Returns whether this host stays connected to a peer, such as a node's coordinator. */
  isPersistent: (peer: string) => boolean = () => false;
  /** Addresses of known peers, least recently seen first. */
  readonly #addresses = new Set<string>();

  constructor(deps: SharesDeps) {
    const permits = (queue: SharedQueue, knows: (claimant: Claimant) => boolean): FairPermits =>
      new FairPermits(QUEUES[queue], {
        knows,
        onRefusal: (reason) => deps.meter.refusal({ queue, reason }),
      });
    const knows = (claimant: Claimant): boolean => this.#knows(claimant);
    this.handshakes = permits('handshakes', ({ address }) => this.#addresses.has(address));
    this.connections = permits('connections', knows);
    this.streams = permits('streams', knows);
    this.calls = permits('calls', knows);
    this.dialBacks = permits('dial-backs', knows);
    this.ranges = permits('ranges', knows);
    this.gossip = permits('gossip', knows);
    const unread = (total: number): FairPermits =>
      new FairPermits(
        { total, reserved: 0, withdraws: 'oldest' },
        { knows: () => false, onRefusal: (reason) => deps.meter.refusal({ queue: 'streams', reason }) },
      );
    this.#unreadOfKnown = unread(UNREAD_OF_KNOWN);
    this.#unreadOfStrangers = unread(UNREAD_OF_STRANGERS);
    this.buffers = new FairPermits(BUFFERS, { knows, onRefusal: () => {} });
  }

  /** Returns the permits for unread bytes of a peer's streams. */
  unread(peer: string): FairPermits {
    return this.isKnown(peer) ? this.#unreadOfKnown : this.#unreadOfStrangers;
  }

  /** Returns the rank in which a peer waits for bandwidth. */
  rankOf(peer: string): Rank {
    if (this.isPersistent(peer)) return 'own';
    return this.isKnown(peer) ? 'known' : 'stranger';
  }

  #knows({ address, peer }: Claimant): boolean {
    if (!this.isKnown(peer)) return false;
    this.#addresses.delete(address);
    this.#addresses.add(address);
    if (this.#addresses.size > KNOWN_ADDRESSES)
      this.#addresses.delete(this.#addresses.values().next().value!);
    return true;
  }
}
