import type { JobEvent, JobEventBody } from '../../protocol/api/job-events.ts';
import type { RunContext } from '../context.ts';
import type { StoredReceipt } from '../store/store.ts';
import type { Receipts } from './receipts.ts';

/**
 * Events and receipts of one transaction. `event` and `receipt` write them to the store immediately. `flush` passes
 * them to listeners and nodes, and must be called after the transaction has become durable.
 */
export class Outbox {
  readonly #context: RunContext;
  readonly #receipts: Receipts;
  readonly #now: number;
  readonly #newEvents: JobEvent[] = [];
  readonly #newReceipts: StoredReceipt[] = [];
  readonly #actions: (() => void)[] = [];

  constructor(deps: { context: RunContext; receipts: Receipts }) {
    this.#context = deps.context;
    this.#receipts = deps.receipts;
    this.#now = deps.context.deps.clock.now();
  }

  event(body: JobEventBody): void {
    const { job, deps } = this.#context;
    this.#newEvents.push(deps.store.events.append(job, this.#now, body));
  }

  receipt(receipt: StoredReceipt): void {
    const { job, deps } = this.#context;
    deps.store.updates.addReceipt(job, receipt);
    this.#newReceipts.push(receipt);
  }

  /** Runs `action` in `flush`, after the transaction. */
  afterwards(action: () => void): void {
    this.#actions.push(action);
  }

  flush(): void {
    for (const event of this.#newEvents) this.#context.onEvent(event);
    for (const receipt of this.#newReceipts) this.#receipts.issue(receipt);
    for (const action of this.#actions) action();
  }
}
