import { isSwarmError } from '../common/errors.ts';
import type { Logger } from '../common/logger.ts';

/** Asynchronous work of one contributor: one main task that something newer replaces, and others beside it. */
export class Tasks {
  readonly #log: Logger;
  readonly #life = new AbortController();
  readonly #running = new Set<Promise<void>>();
  #main = new AbortController();

  constructor(_options: object, deps: { log: Logger }) {
    this.#log = deps.log;
  }

  /** Aborts when everything ends. */
  get life(): AbortSignal {
    return this.#life.signal;
  }

  /** Runs the main task. An aborted one reports neither: `done` is told whether it was, for facts that outlive it. */
  main<T>(
    work: (signal: AbortSignal) => Promise<T>,
    done: (result: T, aborted: boolean) => void,
    failed: (reason: string) => void,
  ): void {
    const task = new AbortController();
    this.#main = task;
    const signal = AbortSignal.any([task.signal, this.life]);
    this.#track(
      work(signal).then(
        (result) => done(result, signal.aborted),
        (error: unknown) => {
          if (signal.aborted) return;
          this.#log.warn(factsOf(error), 'task-failed');
          failed(reasonOf(error));
        },
      ),
    );
  }

  abortMain(): void {
    this.#main.abort(new Error('something newer is to be done'));
  }

  /** Runs work whose failure only needs to be known. */
  beside(what: string, work: () => Promise<unknown>): void {
    this.#track(
      work().then(
        () => {},
        (error: unknown) => {
          if (!this.life.aborted) this.#log.warn(factsOf(error), `${what}-failed`);
        },
      ),
    );
  }

  /** Resolves when all that is running now has ended. */
  async settled(): Promise<void> {
    await Promise.all(this.#running);
  }

  /** Resolves when nothing runs any more. */
  async drained(): Promise<void> {
    while (this.#running.size > 0) await this.settled();
  }

  end(): void {
    this.#life.abort(new Error('the contributor has stopped'));
  }

  #track(work: Promise<void>): void {
    const tracked = work.finally(() => this.#running.delete(tracked));
    this.#running.add(tracked);
  }
}

export function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

export function factsOf(error: unknown): object {
  return isSwarmError(error) ? { code: error.code, reason: error.message } : { reason: reasonOf(error) };
}
