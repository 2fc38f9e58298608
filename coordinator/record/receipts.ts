import { withDeadline } from '../../common/time/deadline.ts';
import { RPC_TIMEOUT_MS, STALE_ROUNDS } from '../../protocol/limits.ts';
import { counts, type ReceiptCode } from '../../protocol/receipts.ts';
import { signMessage } from '../../protocol/signing.ts';
import type { RunContext } from '../context.ts';
import type { StoredReceipt } from '../store/store.ts';

/** Maximum number of receipts that are sent at the same time. */
const SENDING_AT_ONCE = 16;
/**
 * Maximum number of receipts that wait to be sent. Further receipts are dropped, because the authors of the updates
 * also ask for their receipts.
 */
const WAITING = 2048;
/** Maximum number of peers with a tally: 4,096 members of the job, and 1,024 senders that never joined. */
const TALLIED_PEERS = 5 * 1024;

/**
 * Numbers of a peer's accepted and refused updates, and the peer's newest receipt. Each update counts once. An update
 * that intake accepted and a merge refused counts as refused.
 */
export interface Tally {
  readonly accepted: number;
  readonly refused: number;
  /** Number of accepted updates that no merge has taken, for example because the job was paused. */
  readonly unmerged: number;
  readonly last: { readonly round: number; readonly code: ReceiptCode; readonly detail: string } | null;
}

const NO_UPDATES: Tally = { accepted: 0, refused: 0, unmerged: 0, last: null };

/** Receipt codes for updates that intake accepted, but a merge refused. */
const MERGE_REFUSALS: readonly ReceiptCode[] = ['left-out', 'outlier', 'harmful'];
/**
 * Number of a peer's newest deliveries that are kept. Merges can still refuse the updates of the last STALE_ROUNDS + 1
 * rounds. One older delivery is kept, because it becomes the newest delivery if merges refuse all later updates.
 */
const KEPT_DELIVERIES = STALE_ROUNDS + 2;

/** Signs and counts a job's receipts, and sends them to the authors of the updates. */
export class Receipts {
  readonly #context: RunContext;
  readonly #tallies = new Map<string, Tally>();
  /** For each peer, the newest rounds for which it delivered an update that was not refused, in ascending order. */
  readonly #deliveries = new Map<string, readonly number[]>();
  readonly #waiting: { peer: string; receipt: Uint8Array }[] = [];
  #sending = 0;

  constructor(deps: { context: RunContext }) {
    this.#context = deps.context;
    const { job } = this.#context;
    const { updates } = this.#context.deps.store;
    for (const { peer, round } of updates.deliveries(job)) this.noteDelivery(peer, round);
    for (const { peer, code, count } of updates.receiptCounts(job)) this.#add(peer, code, count);
    for (const peer of this.#tallies.keys()) this.#setLast(peer);
  }

  /** Signs a receipt. Signing the same receipt again returns the same bytes. */
  sign({ digest, ...receipt }: StoredReceipt): Uint8Array {
    const { job, deps } = this.#context;
    return signMessage('receipt', { job, update: digest, ...receipt }, deps.network.signer);
  }

  /** Returns the newest receipt of a peer's update, signed; null if there is none. */
  find(peer: string, digest: string): Uint8Array | null {
    const found = this.#context.deps.store.updates.receipt(this.#context.job, peer, digest);
    return found && this.sign(found);
  }

  tally(peer: string): Tally {
    return this.#tallies.get(peer) ?? NO_UPDATES;
  }

  /** Returns the newest round for which a peer has an update that was not refused; null if there is none. */
  lastDelivery(peer: string): number | null {
    return this.#deliveries.get(peer)?.at(-1) ?? null;
  }

  /** Notes that a peer's update was recorded. */
  noteDelivery(peer: string, round: number): void {
    const rounds = [...(this.#deliveries.get(peer) ?? []), round].sort((a, b) => a - b);
    this.#deliveries.set(peer, rounds.slice(-KEPT_DELIVERIES));
  }

  /** Forgets how many updates of a peer were accepted and refused, and which rounds it delivered. */
  forget(peer: string): void {
    this.#tallies.delete(peer);
    this.#deliveries.delete(peer);
  }

  /** Counts the recorded receipts of a peer again. A node that joins again after its removal keeps its counts. */
  recount(peer: string): void {
    const { job, deps } = this.#context;
    this.#tallies.delete(peer);
    const counts = deps.store.updates.receiptCounts(job, peer);
    for (const { code, count } of counts) this.#add(peer, code, count);
    this.#setLast(peer);
  }

  #setLast(peer: string): void {
    const { job, deps } = this.#context;
    const [newest] = deps.store.updates.receipts(job, peer, 1);
    if (newest && this.#tallies.has(peer)) this.#tallies.set(peer, { ...this.tally(peer), last: newest });
  }

  /** Counts a receipt in the tally of its peer, without sending it. */
  count(receipt: StoredReceipt): void {
    const { peer, code } = receipt;
    this.#add(peer, code, 1);
    if (this.#tallies.has(peer)) this.#tallies.set(peer, { ...this.tally(peer), last: receipt });
  }

  /**
   * Counts a recorded receipt and pushes it to the update's author. A push that fails is not repeated, because authors
   * also ask for receipts.
   */
  issue(receipt: StoredReceipt): void {
    this.count(receipt);
    const { code } = receipt;
    if (MERGE_REFUSALS.includes(code) || code === 'conflicting') this.#withdrawDelivery(receipt);
    if (this.#waiting.length >= WAITING || this.#context.signal.aborted) return;
    this.#waiting.push({ peer: receipt.peer, receipt: this.sign(receipt) });
    this.#sendNext();
  }

  /**
   * Forgets the delivery of an update that a merge refused, or that conflicts with another update. Such an update does
   * not protect its author from eviction.
   */
  #withdrawDelivery({ peer, round }: StoredReceipt): void {
    const others = this.#deliveries.get(peer)?.filter((other) => other !== round) ?? [];
    if (others.length > 0) this.#deliveries.set(peer, others);
    else this.#deliveries.delete(peer);
  }

  #sendNext(): void {
    const { signal, deps } = this.#context;
    if (this.#sending >= SENDING_AT_ONCE || signal.aborted) return;
    const item = this.#waiting.shift();
    if (!item) return;
    this.#sending++;
    const { network, clock, log } = deps;
    withDeadline({ clock, ms: RPC_TIMEOUT_MS, signal, what: 'a receipt' }, (signal) =>
      network.request(item.peer, 'notify', { receipt: item.receipt }, { signal }),
    )
      .catch((error: unknown) => log.debug({ peer: item.peer, error }, 'receipt-not-delivered'))
      .finally(() => {
        this.#sending--;
        this.#sendNext();
      });
  }

  #add(peer: string, code: ReceiptCode, count: number): void {
    if (!this.#tallies.has(peer) && this.#tallies.size >= TALLIED_PEERS) return;
    const { accepted, refused, unmerged, last } = this.tally(peer);
    const isAccepted = counts(code);
    const isUnmerged = code === 'null-round';
    const isUndone = isUnmerged || MERGE_REFUSALS.includes(code);
    this.#tallies.set(peer, {
      accepted: accepted + (isAccepted ? count : 0) - (isUndone ? count : 0),
      refused: refused + (isAccepted || isUnmerged ? 0 : count),
      unmerged: unmerged + (isUnmerged ? count : 0),
      last,
    });
  }
}
