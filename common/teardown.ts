import type { Clock } from './clock.ts';
import { withDeadline } from './deadline.ts';
import type { Logger } from './logger.ts';

export interface StopOptions {
  readonly deadlineMs: number;
  /** What still needs everything open. @default nothing */
  readonly first?: () => Promise<unknown>;
  /** Called when it is over, in time or not. */
  readonly last: () => void;
}

/** What a daemon has opened and must close again, whether its start fails half-way or it is stopped. */
export class Teardown {
  readonly #steps: (() => unknown)[] = [];
  readonly #clock: Clock;
  readonly #log: Logger;
  #stopped: Promise<void> | null = null;

  constructor(deps: { clock: Clock; log: Logger }) {
    this.#clock = deps.clock;
    this.#log = deps.log;
  }

  add(...steps: (() => unknown)[]): void {
    this.#steps.push(...steps);
  }

  /** Takes the steps in reverse order, one after the other. One that fails is logged, and keeps no other from its turn. */
  async run(): Promise<void> {
    for (const step of this.#steps.splice(0).reverse()) {
      await Promise.resolve()
        .then(step)
        .catch((error: unknown) => this.#log.warn({ error }, 'stop-step-failed'));
    }
  }

  /** Waits for `first`, then runs all, no longer than until the deadline; then `last`. All of it once, and never rejects. */
  stop({ deadlineMs, first, last }: StopOptions): Promise<void> {
    this.#stopped ??= withDeadline({ clock: this.#clock, ms: deadlineMs, what: 'stopping' }, async () => {
      await first?.();
      await this.run();
    })
      .catch((error: unknown) => this.#log.warn({ error }, 'stop-cut-short'))
      .then(last);
    return this.#stopped;
  }
}
