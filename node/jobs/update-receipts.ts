import type { Receipt } from '../../protocol/messages.ts';
import type { ReceiptCode } from '../../protocol/receipts.ts';
import { requestReceipt, submitUpdate } from '../contact/requests.ts';
import type { NodeEffect, NodeEvent } from '../machine/state.ts';
import type { JobContext } from './context.ts';

/** Receipt codes for which the coordinator also gives a strike. */
const STRIKES: readonly ReceiptCode[] = ['harmful', 'outlier'];

interface UpdateReceiptsDeps {
  readonly dispatch: (event: NodeEvent) => void;
  /** Aborts when the node has stopped. */
  readonly life: AbortSignal;
  /** Called when a receipt may have changed the standing of this node. */
  readonly onStrike: () => void;
  /**
   * Returns whether an error is a final refusal by the coordinator. If so, the node leaves the job and stops working.
   */
  readonly endsWith: (error: unknown) => boolean;
}

/** Asks for the receipts of the node's updates, and stores them. */
export class UpdateReceipts {
  readonly #deps: UpdateReceiptsDeps;

  constructor(deps: UpdateReceiptsDeps) {
    this.#deps = deps;
  }

  /** Asks for the receipt of an update, or submits the update. */
  async ask(
    context: JobContext,
    { type, round, generation }: Extract<NodeEffect, { type: 'ask' | 'submit' }>,
  ): Promise<void> {
    const { dispatch, life, endsWith } = this.#deps;
    const send = type === 'ask' ? requestReceipt : submitUpdate;
    try {
      const receipt = await send(context, round, life);
      if (receipt) this.take(context, receipt, generation);
      else dispatch({ type: 'receipt-unknown', round });
    } catch (error) {
      if (endsWith(error)) return;
      dispatch({ type: 'ask-failed', round, jitter: context.deps.random() });
      throw error;
    }
  }

  /**
   * Stores a receipt.
   * @param generation number of the request that the receipt answers (see `PendingUpdate.generation`); null
   *   if the coordinator sent the receipt unasked
   */
  take({ job, deps }: JobContext, receipt: Receipt, generation: number | null): void {
    const { store, log, meter } = deps;
    const { round, update, code, detail } = receipt;
    const known = store.update(job, round);
    if (known?.update !== update) return;
    store.saveReceipt(job, round, { code, detail });
    const isNew = known.code !== code;
    if (isNew) {
      meter.receiptArrived(code);
      log.info({ round, update, code, detail }, 'receipt-arrived');
    }
    this.#deps.dispatch({ type: 'receipt', round, code, generation });
    if (isNew && STRIKES.includes(code)) this.#deps.onStrike();
  }
}
