import type { Claimant, FairPermits } from '../common/limits/fair-permits.ts';
import type { Clock } from '../common/time/clock.ts';
import { sleep } from '../common/time/deadline.ts';
import { GOSSIP_RPC_BYTES } from '../protocol/limits.ts';

/**
 * Maximum number of bytes of an incomplete RPC that may be held without a permit. Most RPCs are smaller, for example
 * those with heartbeats.
 */
const FREE_BYTES = 32 * 1024;
/** Number of bytes of an incomplete RPC that one permit allows. An update with an inline payload needs one permit. */
export const PERMIT_BYTES = 256 * 1024;
/** Milliseconds before a stream that got no permits claims them again. Meanwhile, the peer has to wait. */
const RETRY_MS = 250;

export interface GossipMemoryDeps {
  /** Permits for PERMIT_BYTES each, shared fairly between addresses. */
  permits: FairPermits;
  clock: Clock;
}

/**
 * Limits the memory of gossip RPCs that have begun to arrive and are not handled yet. gossipsub keeps the bytes of an
 * RPC until the RPC is complete. Without this limit, each stream could hold as many bytes as an RPC may have.
 */
export class GossipMemory {
  readonly #deps: GossipMemoryDeps;

  constructor(deps: GossipMemoryDeps) {
    this.#deps = deps;
  }

  /**
   * Returns an object that claims and releases memory for the RPCs of one stream.
   * @param onWithdrawn called when the stream must discard its incomplete RPC
   */
  of(claimant: Claimant, onWithdrawn: () => void): IncompleteRpc {
    return new IncompleteRpc(claimant, onWithdrawn, this.#deps);
  }
}

/** The permits that a stream holds for an RPC, from its first bytes until it is handled. */
export class IncompleteRpc {
  readonly #claimant: Claimant;
  readonly #onWithdrawn: () => void;
  readonly #deps: GossipMemoryDeps;
  readonly #lengths = new RpcLengths();
  readonly #releases: (() => void)[] = [];
  /** Whether every RPC that has begun to arrive is complete. */
  #complete = true;

  constructor(claimant: Claimant, onWithdrawn: () => void, deps: GossipMemoryDeps) {
    this.#claimant = claimant;
    this.#onWithdrawn = onWithdrawn;
    this.#deps = deps;
  }

  /**
   * Notes that bytes have arrived. If the last RPC is still incomplete, waits until there is memory for the whole RPC.
   * The memory is claimed in one step, so that two streams never wait for each other.
   * @throws the signal's reason
   */
  async add(bytes: Iterable<Uint8Array>, signal: AbortSignal): Promise<void> {
    const length = this.#lengths.add(bytes);
    this.#complete = length === 0;
    // Claim nothing for an RPC above the limit, because gossipsub ends the stream when it reads the length of the RPC.
    // There would never be enough memory, and each attempt to claim it could take permits from other addresses.
    if (length > GOSSIP_RPC_BYTES) return;
    const needed = Math.ceil(Math.max(0, length - FREE_BYTES) / PERMIT_BYTES);
    if (needed <= this.#releases.length) return;
    this.release();
    while (!this.#take(needed)) await sleep(this.#deps.clock, RETRY_MS, signal);
  }

  /** Notes that gossipsub has handled all complete RPCs. */
  handled(): void {
    if (this.#complete) this.release();
  }

  release(): void {
    for (const release of this.#releases.splice(0)) release();
  }

  #giveWay(): void {
    this.release();
    this.#onWithdrawn();
  }

  #take(needed: number): boolean {
    while (this.#releases.length < needed) {
      const release = this.#deps.permits.take(this.#claimant, () => this.#giveWay());
      if (release === null) {
        this.release();
        return false;
      }
      this.#releases.push(release);
    }
    return true;
  }
}

/** Reads the length prefixes of a stream of RPCs. */
class RpcLengths {
  /** Bytes of the current RPC that have not arrived yet. */
  #missing = 0;
  /** Length of the current RPC in bytes. */
  #length = 0;
  /** Value of the length prefix, as far as its bytes have arrived. The prefix is a varint. */
  #value = 0;
  /** Number of bits in `#value`. Each byte of a varint adds seven bits. */
  #bits = 0;

  /**
   * Returns the length of the RPC that is still incomplete after these bytes, or 0 if every RPC is complete.
   */
  add(bytes: Iterable<Uint8Array>): number {
    for (const piece of bytes) {
      for (let at = 0; at < piece.length; ) {
        if (this.#missing > 0) {
          const part = Math.min(this.#missing, piece.length - at);
          this.#missing -= part;
          at += part;
          continue;
        }
        const byte = piece[at++]!;
        this.#value += (byte & 0x7f) * 2 ** this.#bits;
        // gossipsub ends a stream whose prefix is too long, so the value of such a prefix does not matter here.
        this.#bits = Math.min(this.#bits + 7, 49);
        if (byte >= 0x80) continue;
        this.#length = this.#value;
        this.#missing = this.#value;
        this.#value = 0;
        this.#bits = 0;
      }
    }
    return this.#missing > 0 ? this.#length : 0;
  }
}
