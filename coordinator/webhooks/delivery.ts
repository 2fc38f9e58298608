import { isSwarmError } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import type { Clock } from '../../common/time/clock.ts';
import { signatureHeaders, type WebhookMessage } from './message.ts';
import type { Post } from './post.ts';
import type { QueuedMessage, WebhookQueue } from './queue.ts';
import type { WebhookTarget } from './settings.ts';

/** Wait after the first failed attempt, in milliseconds. Each further failure doubles the wait. */
const FIRST_RETRY_MS = 10_000;
/** Longest wait between two attempts, in milliseconds. */
const MAX_RETRY_MS = 3_600_000;
/** Age at which a message that could not be delivered is dropped, in milliseconds. */
export const GIVE_UP_MS = 3 * 86_400_000;

/** Outcome of one attempt to deliver a message. */
export interface Attempt {
  readonly ok: boolean;
  /** HTTP status of the answer; null if there was no answer. */
  readonly status: number | null;
  /** Reason of the failure; empty after a success. It contains neither the URL nor a secret. */
  readonly reason: string;
  /** Advice about the failure; null if there is none. */
  readonly next: string | null;
  /** Time of the attempt in milliseconds since 1970. */
  readonly at: number;
}

export interface DeliveryDeps {
  readonly queue: WebhookQueue;
  readonly clock: Clock;
  readonly log: Logger;
  readonly post: Post;
  /** Version of this program, for the header user-agent. */
  readonly version: string;
}

/** Delivers the messages of one webhook from its queue, one at a time. A failed message is tried again later. */
export class WebhookDelivery {
  readonly target: WebhookTarget;
  readonly #deps: DeliveryDeps;
  readonly #stopping = new AbortController();
  #cancelTimer: () => void = () => {};
  #running: Promise<void> | null = null;
  #last: Attempt | null = null;

  constructor(options: { target: WebhookTarget }, deps: DeliveryDeps) {
    this.target = options.target;
    this.#deps = deps;
  }

  /** The newest attempt to deliver a message since the coordinator started; null if there was none. */
  get last(): Attempt | null {
    return this.#last;
  }

  /** Delivers the messages that are due, unless a delivery runs already. */
  wake(): void {
    if (this.#running !== null || this.#stopping.signal.aborted) return;
    this.#cancelTimer();
    this.#running = this.#deliverDue()
      .catch((error: unknown) =>
        this.#deps.log.error({ webhook: this.target.shown, error }, 'webhook-broken'),
      )
      .finally(() => {
        this.#running = null;
        this.#scheduleNext();
      });
  }

  /** Interrupts the running attempt, which then does not count as failed. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#cancelTimer();
    await this.#running;
  }

  /** Tries once to deliver a message, which need not be in the queue. Does not change the queue. */
  async attempt(message: WebhookMessage): Promise<Attempt> {
    const { url, key, allowPrivate } = this.target;
    const { clock, post, version } = this.#deps;
    const at = clock.now();
    const headers = { 'user-agent': `lora-swarm/${version}`, ...signatureHeaders(message, { key, at }) };
    try {
      const { signal } = this.#stopping;
      const status = await post({ url, headers, body: message.body, allowPrivate, signal });
      const ok = status >= 200 && status < 300;
      this.#last = { ok, status, reason: ok ? '' : `the answer has HTTP status ${status}`, next: null, at };
    } catch (error) {
      this.#last = {
        ok: false,
        status: null,
        reason: failureOf(error),
        next: isSwarmError(error) ? error.next : null,
        at,
      };
    }
    return this.#last;
  }

  async #deliverDue(): Promise<void> {
    const { queue, clock } = this.#deps;
    for (;;) {
      const message = queue.first(this.target.id);
      if (message === null || message.dueAt > clock.now()) return;
      const attempt = await this.attempt(message);
      if (this.#stopping.signal.aborted && !attempt.ok) return;
      this.#record(message, attempt);
    }
  }

  #record(message: QueuedMessage, { ok, reason, at }: Attempt): void {
    const { queue, log } = this.#deps;
    if (ok) {
      queue.remove(message);
      return;
    }
    const about = { webhook: this.target.shown, message: message.id, reason };
    if (at - message.createdAt >= GIVE_UP_MS) {
      queue.remove(message);
      log.warn(about, 'webhook-given-up');
      return;
    }
    const waitMs = Math.min(MAX_RETRY_MS, FIRST_RETRY_MS * 2 ** Math.min(message.attempts, 20));
    queue.retry(message, at + waitMs);
    log.warn({ ...about, attempts: message.attempts + 1, waitMs }, 'webhook-failed');
  }

  #scheduleNext(): void {
    const { queue, clock } = this.#deps;
    if (this.#stopping.signal.aborted) return;
    const message = queue.first(this.target.id);
    if (message === null) return;
    this.#cancelTimer = clock.after(Math.max(0, message.dueAt - clock.now()), () => this.wake());
  }
}

/**
 * Returns why no answer arrived. Error messages of Node.js can contain the host of the URL, but not its path and query,
 * which can be secret.
 */
function failureOf(error: unknown): string {
  if (isSwarmError(error)) return error.message;
  if (!(error instanceof Error)) return 'the request failed';
  if (error.name === 'TimeoutError' || error.name === 'AbortError') return 'no answer in time';
  const { code } = error as NodeJS.ErrnoException;
  return code === undefined ? error.message : `the request failed with ${code}`;
}
