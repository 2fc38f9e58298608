import { serveError } from './errors.ts';

/** Maximum numbers of unanswered sequences. A request for n choices of each of m prompts has n × m sequences. */
export interface AdmissionLimits {
  /** Maximum number of unanswered sequences of one client: an API key or, without keys, a network address. */
  readonly perClient: number;
  /** Maximum number of unanswered sequences of all clients together. */
  readonly total: number;
}

/** Seconds that a refused client is asked to wait if no request has ended yet. */
const FIRST_RETRY_SECONDS = 1;
/** Maximum time in seconds that a refused client is asked to wait. */
const MAX_RETRY_SECONDS = 60;
/** Weight of the newest request in the moving average of request durations. */
const NEWEST_SHARE = 0.2;

/**
 * Refuses requests when too many are unanswered. Requests that are admitted wait in the generator, which serves the
 * clients in turn.
 */
export class Admission {
  readonly limits: AdmissionLimits;
  readonly #now: () => number;
  readonly #admitted = new Map<string, number>();
  #unanswered = 0;
  /** Moving average of request durations in seconds; null before the first request has ended. */
  #meanSeconds: number | null = null;

  /** @param deps `now`: a clock in milliseconds, which is used only to measure durations */
  constructor(limits: AdmissionLimits, { now }: { now: () => number }) {
    this.limits = limits;
    this.#now = now;
  }

  /** Number of sequences that have no answer yet. */
  get unanswered(): number {
    return this.#unanswered;
  }

  /**
   * Admits a request. Returns a function that the caller must call when the request has been answered.
   * @throws SwarmError SERVE_TOO_MANY if the client has too many unanswered sequences (values: `limit`,
   *   `retryAfter` in seconds)
   * @throws SwarmError SERVE_BUSY if all clients together have too many unanswered sequences (same values)
   * @throws SwarmError SERVE_REQUEST if the request alone has more sequences than a limit allows
   */
  admit(client: string, sequences: number): () => void {
    const own = this.#admitted.get(client) ?? 0;
    const { perClient, total } = this.limits;
    const largest = Math.min(perClient, total);
    if (sequences > largest) {
      // Waiting would not help, so the error does not ask the client to send the request again.
      const message = `the request has ${sequences} sequences (prompts × choices); the limit is ${largest}`;
      throw serveError('SERVE_REQUEST', message, { limit: largest });
    }
    if (own + sequences > perClient) {
      const message = `this client would have ${own + sequences} unanswered sequences; the limit is ${perClient}`;
      throw serveError('SERVE_TOO_MANY', message, { limit: perClient, retryAfter: this.#retrySeconds() });
    }
    if (this.#unanswered + sequences > total) {
      const message = `the server would have ${this.#unanswered + sequences} unanswered sequences; its limit is ${total}`;
      throw serveError('SERVE_BUSY', message, { limit: total, retryAfter: this.#retrySeconds() });
    }
    this.#admitted.set(client, own + sequences);
    this.#unanswered += sequences;
    const start = this.#now();
    let ended = false;
    return () => {
      if (ended) return;
      ended = true;
      this.#unanswered -= sequences;
      const left = this.#admitted.get(client)! - sequences;
      if (left === 0) this.#admitted.delete(client);
      else this.#admitted.set(client, left);
      const seconds = (this.#now() - start) / 1000;
      const mean = this.#meanSeconds ?? seconds;
      this.#meanSeconds = mean + NEWEST_SHARE * (seconds - mean);
    };
  }

  /** Estimates the seconds until one of the unanswered requests is answered. */
  #retrySeconds(): number {
    const seconds = this.#meanSeconds ?? FIRST_RETRY_SECONDS;
    return Math.min(MAX_RETRY_SECONDS, Math.max(1, Math.ceil(seconds)));
  }
}
