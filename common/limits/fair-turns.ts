import type { Clock } from '../time/clock.ts';

/** A claim to a turn. */
export interface TurnClaim {
  /** Network address that the claim comes from. All claims from one address together get one share. */
  readonly address: string;
  /** Identity within the address. The share of an address is split evenly among its identities. */
  readonly peer: string;
  /** Whether the claimant is known. All other claimants are strangers. */
  readonly known: boolean;
}

export interface FairTurnsOptions {
  /**
   * Milliseconds during which turns may follow each other directly. After that, the event loop handles other work
   * before the next turn begins, so that a long line of turns does not delay other work.
   */
  readonly sliceMs: number;
}

export interface FairTurnsDeps {
  readonly clock: Clock;
  /** Calls `callback` after the event loop has handled all pending events. @default setImmediate */
  readonly afterLoop?: (callback: () => void) => void;
}

type Waiter = (release: (() => void) | null) => void;

/**
 * Decides the order of work that is done one piece at a time, such as verifying signatures. Each claim asks for one
 * turn. Claims of known peers and claims of strangers wait in two lines. If both lines have claims, they get turns
 * alternately. Within a line, one turn goes to the next address in rotation, and the next turn to the address with the
 * fewest waiting claims. Within an address, peers get turns in rotation. An address therefore cannot delay the claims
 * of another address by making many claims. An address with one claim waits only briefly, even if all other addresses
 * have many claims.
 */
export class FairTurns {
  readonly #sliceMs: number;
  readonly #clock: Clock;
  readonly #afterLoop: (callback: () => void) => void;
  readonly #known = new Line();
  readonly #strangers = new Line();
  #lastKnown = false;
  #held = false;
  /**
   * Time at which the first turn began after the event loop last handled other work; null if no turn has
   * begun since then.
   */
  #sliceStart: number | null = null;

  constructor({ sliceMs }: FairTurnsOptions, { clock, afterLoop = setImmediate }: FairTurnsDeps) {
    this.#sliceMs = sliceMs;
    this.#clock = clock;
    this.#afterLoop = afterLoop;
  }

  /** Number of claims that wait for their turn. */
  get waiting(): number {
    return this.#known.size + this.#strangers.size;
  }

  /**
   * Waits for a turn. Returns a function that ends the turn. The caller must call this function. A peer has only one
   * place in a line. If a waiting peer makes a second claim, the second claim takes the place of the first, and the
   * first claim gets null instead of a turn. A claim whose signal aborts leaves the line and also gets null.
   */
  async take({ known, ...claim }: TurnClaim, signal?: AbortSignal): Promise<(() => void) | null> {
    if (signal?.aborted) return null;
    const end = this.tryTake();
    if (end !== null) return end;
    const line = known ? this.#known : this.#strangers;
    return new Promise((resolve) => {
      const onAbort = (): void => {
        if (line.remove(claim, waiter)) resolve(null);
      };
      const waiter: Waiter = (end) => {
        signal?.removeEventListener('abort', onAbort);
        resolve(end);
      };
      line.add(claim, waiter);
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }

  /**
   * Returns a function that ends the turn, as {@link take} does, if the turn can begin immediately. Otherwise
   * returns null.
   */
  tryTake(): (() => void) | null {
    return !this.#held && this.waiting === 0 && this.#hasTime() ? this.#grant() : null;
  }

  #grant(): () => void {
    this.#held = true;
    let ended = false;
    return () => {
      if (ended) return;
      ended = true;
      this.#held = false;
      this.#next();
    };
  }

  #next(): void {
    if (this.#held || this.waiting === 0 || !this.#hasTime()) return;
    const knownFirst = this.#strangers.size === 0 || (this.#known.size > 0 && !this.#lastKnown);
    this.#lastKnown = knownFirst;
    const waiter = (knownFirst ? this.#known : this.#strangers).shift()!;
    waiter(this.#grant());
  }

  #hasTime(): boolean {
    const now = this.#clock.monotonic();
    if (this.#sliceStart === null) {
      this.#sliceStart = now;
      this.#afterLoop(() => {
        this.#sliceStart = null;
        this.#next();
      });
    }
    return now - this.#sliceStart < this.#sliceMs;
  }
}

/**
 * A line of claims. Turns go alternately to the first address of the map and to the address with the fewest claims.
 * After its turn, an address moves to the end of the map.
 */
class Line {
  readonly #addresses = new Map<string, Map<string, Waiter>>();
  #size = 0;
  #fewestNext = false;

  get size(): number {
    return this.#size;
  }

  add({ address, peer }: Omit<TurnClaim, 'known'>, waiter: Waiter): void {
    const peers = this.#addresses.get(address) ?? new Map<string, Waiter>();
    this.#addresses.set(address, peers);
    const earlier = peers.get(peer);
    // A key that is already in the map keeps its place.
    peers.set(peer, waiter);
    if (earlier === undefined) this.#size++;
    else earlier(null);
  }

  /** Removes a claim. Returns false if it is no longer in the line. */
  remove({ address, peer }: Omit<TurnClaim, 'known'>, waiter: Waiter): boolean {
    const peers = this.#addresses.get(address);
    if (peers?.get(peer) !== waiter) return false;
    peers.delete(peer);
    this.#size--;
    if (peers.size === 0) this.#addresses.delete(address);
    return true;
  }

  shift(): Waiter | null {
    const next = this.#nextAddress();
    if (next === null) return null;
    const [address, peers] = next;
    const [peer, waiter] = peers.entries().next().value!;
    peers.delete(peer);
    this.#size--;
    this.#addresses.delete(address);
    if (peers.size > 0) this.#addresses.set(address, peers);
    return waiter;
  }

  #nextAddress(): [string, Map<string, Waiter>] | null {
    let next: [string, Map<string, Waiter>] | null = null;
    for (const entry of this.#addresses) {
      if (next === null || entry[1].size < next[1].size) next = entry;
      // Stop at an address with one claim, because no address has fewer. In every second turn, stop at the first
      // address.
      if (!this.#fewestNext || entry[1].size === 1) break;
    }
    this.#fewestNext = !this.#fewestNext;
    return next;
  }
}
