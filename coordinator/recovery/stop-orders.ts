import { z } from 'zod';
import { decodeCbor, encodeCbor } from '../../protocol/cbor.ts';
import { isNewer } from '../../protocol/job/head-order.ts';
import { RPC_MESSAGE_BYTES } from '../../protocol/limits.ts';
import { rpcMethods } from '../../protocol/requests/rpc.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import type { Store } from '../store/store.ts';
import type { ProvenHead } from './head-claims.ts';

/** What the database keeps of a proven head: the peer that sent it, and its answer. */
export const stopProofSchema = z.strictObject({ peer: z.string(), answer: rpcMethods.recall.response });
/** Maximum size of a proof in bytes. The answer may take RPC_MESSAGE_BYTES, and the rest is for the peer. */
export const PROOF_BYTES = RPC_MESSAGE_BYTES + 4096;

/**
 * The operator's orders to stop jobs that are behind their nodes. The database keeps each order with the newest later head
 * that a node has proven. After a restart, the coordinator therefore still knows that the job must sign no head with a
 * number up to that of the proven head.
 */
export class StopOrders {
  readonly #store: Pick<Store, 'jobs' | 'transaction'>;
  /** The reasons that the operator gave, by job. */
  readonly #reasons: Map<string, string>;

  constructor(store: Pick<Store, 'jobs' | 'transaction'>) {
    this.#store = store;
    this.#reasons = new Map(store.jobs.stopOrders().map(({ job, reason }) => [job, reason]));
  }

  /** Returns the reason of the order to stop a job; null if there is no order. */
  reason(job: string): string | null {
    return this.#reasons.get(job) ?? null;
  }

  /** Stores an order durably. */
  put({ job, peer, answer }: ProvenHead, reason: string): void {
    const proof = encodeCbor({ peer, answer });
    this.#store.transaction(() => this.#store.jobs.setStopOrder(job, { reason, proof }));
    this.#reasons.set(job, reason);
  }

  /** Deletes an order that has been carried out. */
  delete(job: string): void {
    this.#store.transaction(() => this.#store.jobs.setStopOrder(job, null));
    this.#reasons.delete(job);
  }

  /** Returns the proven heads of the stored orders that are later than the newest heads in the database. */
  laterHeads(): ProvenHead[] {
    const { jobs } = this.#store;
    return jobs.stopOrders().flatMap(({ job, proof }) => {
      const { peer, answer } = decodeCbor(proof, stopProofSchema, PROOF_BYTES);
      const head = verifyMessage('head', answer.head!).message;
      const own = verifyMessage('head', jobs.head(job)!).message;
      return isNewer(head, own) ? [{ job, peer, head, answer }] : [];
    });
  }
}
