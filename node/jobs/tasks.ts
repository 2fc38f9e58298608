import { isSwarmError, messageOf } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';

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

/** Advice for errors whose own advice is for a command. Unlike a command, a node tries again by itself. */
const ADVICE: Readonly<Record<string, string>> = {
  STORE_FULL: 'free disk space, and the node continues by itself',
};

/** Returns a text for people: the message of an error, followed by advice if there is any. */
export function reasonOf(error: unknown): string {
  const next = isSwarmError(error) ? (ADVICE[error.code] ?? error.next) : null;
  return next === null ? messageOf(error) : `${messageOf(error)}; ${next}`;
}

/** Returns the fields of a log line about an error. */
export function errorFields(error: unknown): object {
  const reason = reasonOf(error);
  if (!isSwarmError(error)) return { reason };
  const { code, values } = error;
  return code === 'RPC_REFUSED' ? { code, refusal: values.code, reason } : { code, reason };
}
