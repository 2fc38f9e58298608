import { STALE_ROUNDS } from '../../protocol/limits.ts';
import type { Head } from '../../protocol/messages.ts';
import { counts, type ReceiptCode } from '../../protocol/receipts.ts';
import { isOver, isPast } from './work.ts';

/**
 * An update that was made and stored, and whose fate is open. It ends in one of two ways: `counted`, it is part of
 * a checkpoint; `restored`, it is not, and was put back into the error feedback.
 */
export interface PendingUpdate {
  readonly round: number;
  /** Digest of the payload. */
  readonly update: string;
  /** The last receipt. Provisional: the held-out gate may still leave an accepted update out. */
  readonly code: ReceiptCode | null;
  /**
   * Grows whenever a head makes the last receipt stale. Only an answer to a question asked since then is final,
   * not a notice that was sent earlier and travelled longer.
   */
  readonly generation: number;
  /** Questions asked since the last answer: sets the back-off. */
  readonly asks: number;
  /** When to ask next; null while the next head is awaited. */
  readonly askAt: number | null;
}

export type Outcome = 'counted' | 'restored';

/** What a new head says about an update: settled, to be asked about, or nothing. */
export function onHead(
  pending: PendingUpdate,
  head: Head,
  { self, head: previous }: { self: string; head: Head | null },
  now: number,
): PendingUpdate | Outcome {
  // By peer too: others may send the same bytes.
  if (head.included.some(({ peer, update }) => peer === self && update === pending.update)) return 'counted';
  if (!isPast(head, pending.round)) return pending;
  const moved = !previous || previous.round !== head.round || isOver(head) !== isOver(previous);
  return moved ? { ...pending, generation: pending.generation + 1, asks: 0, askAt: now } : pending;
}

/**
 * What a receipt says about an update.
 * @param asked the generation in which it was asked for; null for a notice
 */
export function onReceipt(
  pending: PendingUpdate,
  code: ReceiptCode,
  asked: number | null,
  head: Head | null,
): PendingUpdate | Outcome {
  if (!counts(code)) return 'restored';
  if (head && asked === pending.generation && isFinal(code, pending.round, head)) return 'counted';
  // A notice does not answer the question that a newer head has raised.
  const answered = asked === pending.generation || !head || !isPast(head, pending.round);
  return { ...pending, code, asks: 0, askAt: answered ? null : pending.askAt };
}

/** Whether a receipt that counts, given while `head` is the newest, can no longer change. */
function isFinal(code: ReceiptCode, round: number, head: Head): boolean {
  if (!isPast(head, round)) return false;
  if (isOver(head)) return true;
  // A late update is merged with the round that is open when it arrives, or never.
  const last = code === 'late' ? round + STALE_ROUNDS + 1 : round;
  return head.round > last;
}
