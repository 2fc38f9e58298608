import type { Outcome } from '../../protocol/api/node.ts';
import { STALE_ROUNDS } from '../../protocol/limits.ts';
import type { Head } from '../../protocol/messages.ts';
import { counts, type ReceiptCode } from '../../protocol/receipts.ts';
import { isOver, isPast } from './work.ts';

/** A stored update whose outcome is not known yet. */
export interface PendingUpdate {
  readonly round: number;
  /** Digest of the payload. */
  readonly update: string;
  /**
   * Code of the newest receipt; null before the first. The code is not final, because the gate may still leave the
   * update out.
   */
  readonly code: ReceiptCode | null;
  /**
   * Number of heads so far that made the node ask for the receipt again. Each request carries this number. Only the
   * answer to a request with the current number can confirm that the update counts. A receipt that the coordinator sent
   * unasked cannot confirm this, because it may be older than the newest head even if it arrives later.
   */
  readonly generation: number;
  /**
   * Number of requests for the receipt since the last answer. The pause before the next request grows with this number.
   */
  readonly asks: number;
  /** Time to ask for the receipt next, on the monotonic clock; null while the update waits for the next head. */
  readonly askAt: number | null;
}

/**
 * Applies a new head. Returns the update's outcome if the head decides it, otherwise the update. If this head shows
 * that the update's round has ended, the node asks for the receipt immediately.
 */
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
 * Applies a receipt. Returns the update's outcome if the receipt is final, otherwise the update with the
 * receipt's code.
 * @param generation the `generation` that the answered request carried; null if the coordinator sent the
 *   receipt unasked
 */
export function onReceipt(
  pending: PendingUpdate,
  code: ReceiptCode,
  generation: number | null,
  head: Head | null,
): PendingUpdate | Outcome {
  if (!counts(code)) return 'restored';
  if (head && generation === pending.generation && isFinal(code, pending.round, head)) return 'counted';
  // Once a head has ended the round, the node asks for the receipt. A receipt that the coordinator sent without being
  // asked does not replace the answer, because it may be older than the head.
  const answered = generation === pending.generation || !head || !isPast(head, pending.round);
  return { ...pending, code, asks: 0, askAt: answered ? null : pending.askAt };
}

/**
 * Returns whether a receipt with this code is final.
 * @param head the coordinator's newest head at the time of the receipt
 */
function isFinal(code: ReceiptCode, round: number, head: Head): boolean {
  if (!isPast(head, round)) return false;
  if (isOver(head)) return true;
  // An update may be up to STALE_ROUNDS rounds late. It is merged in the round that is open when it arrives, or never.
  const last = code === 'late' ? round + STALE_ROUNDS + 1 : round;
  return head.round > last;
}
