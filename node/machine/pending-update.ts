import { STALE_ROUNDS } from '../../protocol/limits.ts';
import type { Head } from '../../protocol/messages.ts';
import { counts, type ReceiptCode } from '../../protocol/receipts.ts';
import { isOver, isPast } from './work.ts';

/** A stored update whose outcome is not known yet. */
export interface PendingUpdate {
  readonly round: number;
  /** Digest of the payload. */
  readonly update: string;
  /** Code of the newest receipt. Not final: the gate may still leave an accepted update out. */
  readonly code: ReceiptCode | null;
  /**
   * Number of heads that made the newest receipt stale. Only the answer to a question of this generation is final: a
   * receipt that the coordinator sent unasked may be older than the head and have travelled longer.
   */
  readonly generation: number;
  /** Questions since the last answer. Sets the back-off. */
  readonly asks: number;
  /** When to ask next, on the monotonic clock; null while the next head is awaited. */
  readonly askAt: number | null;
}

/**
 * How an update ended. `counted`: it is part of a checkpoint. `restored`: it is not, and the node has put it back into
 * its error feedback.
 */
export type Outcome = 'counted' | 'restored';

/** Applies a new head: returns the update's outcome, or the update, due for a question if the head ends its round. */
export function onHead(
  pending: PendingUpdate,
  head: Head,
  { self, head: previous }: { self: string; head: Head | null },
  now: number,
): PendingUpdate | Outcome {
  // The peer is compared too, because another node may have sent the same bytes.
  if (head.included.some(({ peer, update }) => peer === self && update === pending.update)) return 'counted';
  if (!isPast(head, pending.round)) return pending;
  const moved = !previous || previous.round !== head.round || isOver(head) !== isOver(previous);
  return moved ? { ...pending, generation: pending.generation + 1, asks: 0, askAt: now } : pending;
}

/**
 * Applies a receipt: returns the update's outcome, or the update with the receipt's code.
 * @param generation of the question that the receipt answers; null when the coordinator sent it unasked
 */
export function onReceipt(
  pending: PendingUpdate,
  code: ReceiptCode,
  generation: number | null,
  head: Head | null,
): PendingUpdate | Outcome {
  if (!counts(code)) return 'restored';
  if (head && generation === pending.generation && isFinal(code, pending.round, head)) return 'counted';
  // An unasked receipt does not answer the question that a newer head has raised.
  const answered = generation === pending.generation || !head || !isPast(head, pending.round);
  return { ...pending, code, asks: 0, askAt: answered ? null : pending.askAt };
}

/** Whether a receipt that counts, given while `head` is the newest head, can no longer change. */
function isFinal(code: ReceiptCode, round: number, head: Head): boolean {
  if (!isPast(head, round)) return false;
  if (isOver(head)) return true;
  // A late update is merged in the round that is open when it arrives, or never.
  const last = code === 'late' ? round + STALE_ROUNDS + 1 : round;
  return head.round > last;
}
