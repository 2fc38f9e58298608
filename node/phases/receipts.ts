import type { Receipt } from '../../protocol/messages.ts';
import type { PhaseContext, SwarmNodeDeps } from '../context.ts';
import type { NodeEffect, NodeEvent } from '../machine/state.ts';
import { askReceipt, openReceipt, submit } from './await.ts';

export interface ReceiptsDeps {
  readonly deps: SwarmNodeDeps;
  /** Aborts when the contributor has stopped. */
  readonly life: AbortSignal;
  dispatch(event: NodeEvent): void;
}

/** What a node asks and hears about its updates: kept for people and for the next start, then told to the machine. */
export class Receipts {
  readonly #with: ReceiptsDeps;

  constructor(_options: object, deps: ReceiptsDeps) {
    this.#with = deps;
  }

  /** Asks what became of an update, or hands it over. @throws what the coordinator or the network refuses */
  async inquire(
    context: PhaseContext,
    { type, round, generation }: Extract<NodeEffect, { type: 'ask' | 'submit' }>,
  ): Promise<void> {
    const { deps, life, dispatch } = this.#with;
    try {
      const receipt = await (type === 'ask' ? askReceipt : submit)(context, round, life);
      if (receipt) this.#take(context, receipt, generation);
      else dispatch({ type: 'receipt-unknown', round });
    } catch (error) {
      dispatch({ type: 'ask-failed', round, jitter: deps.random() });
      throw error;
    }
  }

  /** A receipt that the coordinator sends by itself. @throws SwarmError RECEIPT_MISMATCH, and as `open` */
  notice(context: PhaseContext, envelope: Uint8Array): void {
    this.#take(context, openReceipt(context, envelope), null);
  }

  #take({ job }: PhaseContext, { round, update, code, detail }: Receipt, asked: number | null): void {
    const { deps, dispatch } = this.#with;
    const { store, log, observer } = deps;
    const known = store.update(job, round);
    if (known?.update !== update) return;
    store.saveReceipt(job, round, { code, detail });
    if (known.code !== code) {
      observer.receipt(code);
      log.info({ round, update, code, detail }, 'receipt');
    }
    dispatch({ type: 'receipt', round, code, asked });
  }
}
