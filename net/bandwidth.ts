import { raceSignal } from 'race-signal';
import type { Clock } from '../common/time/clock.ts';
import { type BandwidthClaimant, ByteQueue } from './byte-queue.ts';

/** Maximum rates of the traffic in bytes per second; null means no maximum. */
export interface Rates {
  readonly upload: number | null;
  readonly download: number | null;
}

/**
 * Milliseconds of unused bandwidth that are kept for later bytes, so that short pauses do not lower the
 * average rate.
 */
const BURST_MS = 1_000;

interface RateLimitDeps {
  readonly clock: Clock;
  /**
   * Returns the number of bytes that this machine has transferred so far in the direction that is limited.
   */
  readonly total: () => number;
}

/** The claimant of bytes that this machine fetches for itself. */
const OWN: BandwidthClaimant = { rank: 'own', address: '', peer: '' };

/**
 * A token bucket for one direction. Transfers of blobs wait until the bucket allows their bytes. Gossip, requests and
 * all other bytes do not wait, because they are few and urgent. They are also charged to the bucket, so the next blobs
 * wait longer. If several transfers wait, {@link ByteQueue} decides which of them continues first.
 */
export class RateLimit {
  readonly #deps: RateLimitDeps;
  readonly #queue = new ByteQueue();
  #rate: number | null = null;
  /**
   * Time at which all bytes so far would have been transferred at the maximum rate, on the monotonic clock.
   */
  #paidUntil = Number.NEGATIVE_INFINITY;
  /** Number of bytes of blobs that `take` has allowed, without refunded bytes. */
  #granted = 0;
  /** Number of bytes of all traffic except blobs, as `#debtMs` last counted them. */
  #others = 0;
  /** Cancels the timer that grants the next bytes; null while no bytes wait. */
  #cancelTimer: (() => void) | null = null;

  constructor(deps: RateLimitDeps) {
    this.#deps = deps;
  }

  /** Bytes per second; null for no limit. */
  get rate(): number | null {
    return this.#rate;
  }

  set rate(rate: number | null) {
    // Bytes that crossed the network while there was no limit do not count against the new limit.
    if (this.#rate === null) this.#others = this.#newOthers();
    this.#rate = rate;
    this.#grantWaiting();
  }

  /**
   * Returns the milliseconds for which further bytes of a blob would wait.
   * @param claimant peer that the bytes are for. @default this machine
   */
  waitMs(claimant: BandwidthClaimant = OWN): number {
    return this.#debtMs() + this.queuedMs(claimant);
  }

  /** Returns the milliseconds that the waiting bytes ahead of a claimant's next bytes will take. */
  queuedMs(claimant: BandwidthClaimant): number {
    return this.#rate === null ? 0 : (1000 * this.#queue.bytesBefore(claimant)) / this.#rate;
  }

  /**
   * Waits until bytes of a blob may be transferred.
   * @param claimant peer that the bytes are for. @default this machine
   * @throws the signal's reason if it aborts first
   */
  async take(bytes: number, signal: AbortSignal, claimant: BandwidthClaimant = OWN): Promise<void> {
    if (this.#queue.isEmpty && this.#debtMs() === 0) {
      this.#grant(bytes);
      return;
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    const { rank, address, peer } = claimant;
    const leave = this.#queue.add({ rank, address, peer, bytes, grant: resolve });
    if (this.#cancelTimer === null) this.#grantWaiting();
    try {
      await raceSignal(promise, signal);
    } catch (error) {
      leave();
      // The timer must not keep the process running if no other bytes wait.
      this.#grantWaiting();
      throw error;
    }
  }

  /** Gives back bytes that were taken, but not transferred. */
  refund(bytes: number): void {
    this.#granted -= bytes;
    this.#charge(-bytes);
    this.#grantWaiting();
  }

  /** Grants waiting bytes until the bucket is empty, and sets the timer for the next bytes. */
  #grantWaiting(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = null;
    for (let waitMs = this.#debtMs(); !this.#queue.isEmpty; waitMs = this.#debtMs()) {
      if (waitMs > 0) {
        this.#cancelTimer = this.#deps.clock.after(waitMs, () => this.#grantWaiting());
        return;
      }
      const next = this.#queue.shift()!;
      this.#grant(next.bytes);
      next.grant();
    }
  }

  #grant(bytes: number): void {
    this.#granted += bytes;
    this.#charge(bytes);
  }

  /** Milliseconds until all bytes so far would be transferred at the rate of the limit. */
  #debtMs(): number {
    if (this.#rate === null) return 0;
    const others = this.#newOthers();
    this.#charge(others - this.#others);
    this.#others = others;
    return Math.max(0, this.#paidUntil - this.#deps.clock.monotonic());
  }

  #newOthers(): number {
    return Math.max(this.#others, this.#deps.total() - this.#granted);
  }

  #charge(bytes: number): void {
    if (this.#rate === null) return;
    const from = Math.max(this.#paidUntil, this.#deps.clock.monotonic() - BURST_MS);
    this.#paidUntil = from + (1000 * bytes) / this.#rate;
  }
}

/** The bandwidth limits of a host, one for each direction. */
export class Bandwidth {
  readonly upload: RateLimit;
  readonly download: RateLimit;

  constructor({ clock, traffic }: { clock: Clock; traffic: () => { sent: number; received: number } }) {
    this.upload = new RateLimit({ clock, total: () => traffic().sent });
    this.download = new RateLimit({ clock, total: () => traffic().received });
  }

  set({ upload, download }: Rates): void {
    this.upload.rate = upload;
    this.download.rate = download;
  }
}
