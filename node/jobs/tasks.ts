import type { Logger } from '../../common/logger.ts';
import { errorFields } from '../errors.ts';

/**
 * Keeps track of a node's asynchronous tasks. At most one of the tasks is the main task, which can be aborted
 * while all other tasks continue.
 */
export class Tasks {
  readonly #log: Logger;
  readonly #life = new AbortController();
  readonly #running = new Set<Promise<void>>();
  #main = new AbortController();

  constructor(deps: { log: Logger }) {
    this.#log = deps.log;
  }

  /** Aborts when the node has stopped. */
  get life(): AbortSignal {
    return this.#life.signal;
  }

  /** Runs the main task. Its signal aborts when {@link abortMain} is called and when the node stops. */
  runMain(task: (signal: AbortSignal) => Promise<void>): void {
    this.#main = new AbortController();
    this.#track(task(AbortSignal.any([this.#main.signal, this.life])));
  }

  abortMain(): void {
    this.#main.abort(new Error('a newer head asks for other work'));
  }

  /** Runs a task beside the main task. If it fails, the failure is logged as `<name>-failed`. */
  run(name: string, task: () => Promise<unknown>): void {
    this.#track(
      task().then(
        () => {},
        (error: unknown) => {
          if (!this.life.aborted) this.#log.warn(errorFields(error), `${name}-failed`);
        },
      ),
    );
  }

  /** Resolves when all tasks that are running now have ended. */
  async settled(): Promise<void> {
    await Promise.all(this.#running);
  }

  /** Resolves when no task is running. */
  async drained(): Promise<void> {
    while (this.#running.size > 0) await this.settled();
  }

  /** Aborts all tasks. */
  end(): void {
    this.#life.abort(new Error('the node has stopped'));
  }

  #track(task: Promise<void>): void {
    const tracked = task.finally(() => this.#running.delete(tracked));
    this.#running.add(tracked);
  }
}
