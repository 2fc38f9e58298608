/**
 * Milliseconds after a Ctrl-C in which another SIGINT belongs to the same Ctrl-C. The time is short, because a user can
 * press Ctrl-C a second time to stop at once.
 */
const SAME_INTERRUPT_MS = 500;
/** Milliseconds after a SIGTERM or SIGHUP in which further such signals belong to the same request. */
const SAME_REQUEST_MS = 1_000;

/**
 * Distinguishes a new request to stop from a repeated signal. One request can cause several signals: A terminal sends
 * Ctrl-C to its whole process group, and npx also passes it on to the command. The `timeout` program signals its child and
 * then the group. The launcher for an old Node.js (install/newer-node.js) passes on the signals that it receives.
 */
export class StopRequests {
  readonly #now: () => number;
  #interruptedAt = Number.NEGATIVE_INFINITY;
  #requestedAt = Number.NEGATIVE_INFINITY;

  /** @param deps.now returns a monotonic time in milliseconds */
  constructor({ now }: { now: () => number }) {
    this.#now = now;
  }

  /** Returns whether a signal that has just arrived is a new request. */
  isNew(signal: 'SIGINT' | 'SIGTERM' | 'SIGHUP'): boolean {
    const now = this.#now();
    if (signal === 'SIGINT') {
      if (now - this.#interruptedAt < SAME_INTERRUPT_MS) return false;
      this.#interruptedAt = now;
    } else {
      if (now - this.#requestedAt < SAME_REQUEST_MS) return false;
      this.#requestedAt = now;
    }
    return true;
  }
}
