import type { Logger } from './logger.ts';
import type { Clock } from './time/clock.ts';
import { withDeadline } from './time/deadline.ts';

export interface StopOptions {
  readonly deadlineMs: number;
  /** Called before the steps of the teardown, while nothing has been closed yet. @default does nothing */
  readonly first?: () => Promise<unknown>;
  /** Called when the steps of the teardown have ended, or at the deadline if that comes first. */
  readonly last: () => void;
}

/**
 * The steps that close what a daemon has opened. The steps run when the daemon stops, or when its start fails
 * half-way.
 */
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

  /** Runs the steps one by one in reverse order. A step that fails is logged, and the next one runs. */
  async run(): Promise<void> {
    for (const step of this.#steps.splice(0).reverse()) {
      await Promise.resolve()
        .then(step)
        .catch((error: unknown) => this.#log.warn({ error }, 'stop-step-failed'));
    }
  }

  /**
   * Runs `first` and the added steps, at most until the deadline, and then `last`. The steps also run if
   * `first` fails. A second call returns the promise of the first call. Never rejects.
   */
  stop({ deadlineMs, first, last }: StopOptions): Promise<void> {
    this.#stopped ??= withDeadline({ clock: this.#clock, ms: deadlineMs, what: 'stopping' }, async () => {
      await Promise.resolve()
        .then(first)
        .catch((error: unknown) => this.#log.warn({ error }, 'stop-step-failed'));
      await this.run();
    })
      .catch((error: unknown) => this.#log.warn({ error }, 'stop-cut-short'))
      .then(last);
    return this.#stopped;
  }
}
