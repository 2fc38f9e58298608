import type { Clock } from '../common/clock.ts';
import { sleep } from '../common/deadline.ts';

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
  /** Returns all bytes that crossed the network in this direction. */
  readonly total: () => number;
}

/**
 * A token bucket for one direction. Transfers of blobs wait until the bucket allows their bytes. Gossip, requests and all
 * other bytes do not wait, because they are few and urgent. They are also charged to the bucket, so the next blobs wait
 * longer.
 */
export class RateLimit {
  readonly #deps: RateLimitDeps;
  #rate: number | null = null;
  /** Time at which all bytes so far would be transferred at this rate, on the monotonic clock. */
  #paidUntil = Number.NEGATIVE_INFINITY;
  /** Number of bytes of blobs that were requested with `take`, without refunded bytes. */
  #granted = 0;
  /** Number of other bytes that crossed the network before the newest count. */
  #others = 0;

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
  }

  /** Milliseconds for which the next bytes of a blob would wait. */
  get waitMs(): number {
    if (this.#rate === null) return 0;
    this.#countOthers();
    return Math.max(0, this.#paidUntil - this.#deps.clock.monotonic());
  }

  /** Waits until bytes of a blob may be transferred. @throws the signal's reason if it aborts first */
  async take(bytes: number, signal: AbortSignal): Promise<void> {
    const { waitMs } = this;
    this.#granted += bytes;
    this.#charge(bytes);
    if (waitMs === 0) return;
    try {
      await sleep(this.#deps.clock, waitMs, signal);
    } catch (error) {
      this.refund(bytes);
      throw error;
    }
  }

  /** Gives back bytes that were taken, but not transferred. */
  refund(bytes: number): void {
    this.#granted -= bytes;
    this.#charge(-bytes);
  }

  #newOthers(): number {
    return Math.max(this.#others, this.#deps.total() - this.#granted);
  }

  #countOthers(): void {
    const others = this.#newOthers();
    this.#charge(others - this.#others);
    this.#others = others;
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
