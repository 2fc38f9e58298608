import { Worker } from 'node:worker_threads';
import { Calls, type Methods } from './calls.ts';

/** A worker thread that answers calls. */
export class ThreadCalls<M extends Methods> extends Calls<M> {
  readonly #worker: Worker;

  /**
   * @param ended makes the error of calls that the thread did not answer before it ended; `cause` is the thread's error
   */
  constructor(entry: URL, { ended }: { ended: (cause: unknown) => Error }) {
    const worker = new Worker(entry);
    super({
      channel: {
        send: (message, onSent) => {
          worker.postMessage(message);
          onSent?.();
        },
        onMessage: (listener) => worker.on('message', listener as (message: unknown) => void),
      },
    });
    this.#worker = worker;
    worker.on('error', (error) => this.fail(ended(error)));
    worker.on('exit', (code) => this.fail(ended(new Error(`it ended with code ${code}`))));
  }

  /** Ends the thread immediately; pending calls reject. Idempotent. */
  async terminate(): Promise<void> {
    await this.#worker.terminate();
  }
}
