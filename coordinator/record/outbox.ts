import type { JobEvent, JobEventBody } from '../../monitor/job-events.ts';
import type { RunContext } from '../context.ts';
import type { StoredReceipt } from '../store/store.ts';
import { type Notifier, sealReceipt } from './receipts.ts';

export interface OutboxDeps {
  readonly context: RunContext;
  readonly notifier: Notifier;
  /** Told of each receipt after it has become durable. */
  readonly onReceipt: (receipt: StoredReceipt) => void;
}

/**
 * What a transaction has to say, held back until it is durable: written to the store at once, told to others by `flush`.
 */
export class Outbox {
  readonly #context: RunContext;
  readonly #notifier: Notifier;
  readonly #onReceipt: (receipt: StoredReceipt) => void;
  readonly #now: number;
  readonly #events: JobEvent[] = [];
  readonly #receipts: StoredReceipt[] = [];
  readonly #actions: (() => void)[] = [];

  constructor(options: { now: number }, deps: OutboxDeps) {
    this.#now = options.now;
    this.#context = deps.context;
    this.#notifier = deps.notifier;
    this.#onReceipt = deps.onReceipt;
  }

  event(body: JobEventBody): void {
    const { job, deps } = this.#context;
    this.#events.push(deps.store.events.append(job, this.#now, body));
  }

  receipt(receipt: StoredReceipt): void {
    const { job, deps } = this.#context;
    deps.store.updates.addReceipt(job, receipt);
    this.#receipts.push(receipt);
  }

  /** Runs `action` after the transaction. */
  afterwards(action: () => void): void {
    this.#actions.push(action);
  }

  flush(): void {
    const { job, deps, onEvent } = this.#context;
    for (const event of this.#events) onEvent(event);
    for (const receipt of this.#receipts) {
      this.#onReceipt(receipt);
      this.#notifier.send(receipt.peer, sealReceipt(job, receipt, deps.network.signer));
    }
    for (const action of this.#actions) action();
  }
}
