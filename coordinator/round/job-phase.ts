/** Questions about the state of a job. */

import type { PendingOrder } from '../../protocol/api/coordinator.ts';
import type { JobState, RollBackOrder } from './state.ts';

/**
 * The job pauses itself if the gate has refused the merges of this number of consecutive rounds. The cause is then
 * probably in the data or the settings, and the operator must look for it.
 */
export const REFUSALS_IN_A_ROW = 5;

/** Returns whether a round is open for updates. */
export function isOpen(state: JobState): boolean {
  return state.phase === 'training' || state.phase === 'collecting';
}

/** Returns whether the updates of a closed round are being scored, merged, evaluated or committed. */
export function isMerging({ phase }: JobState): boolean {
  return phase === 'validating' || phase === 'committing';
}

/** Returns whether the job paused itself, for any cause. Returns false if the operator paused it. */
export function pausedItself({ phase, pauseCause }: JobState): boolean {
  return phase === 'paused' && pauseCause !== 'operator';
}

/**
 * Returns whether the job paused itself and continues only when its operator resumes it. A job that is paused because
 * the disk is full continues automatically.
 */
export function needsOperator(state: JobState): boolean {
  return pausedItself(state) && state.pauseCause !== 'disk-full';
}

export function isOver(state: JobState): boolean {
  return state.phase === 'finished';
}

/** Returns whether the operator stopped the job while its round was closed, so that the job ends with this round. */
export function isEnding({ ending }: JobState): boolean {
  return ending?.phase === 'finished';
}

/** Returns whether the round in progress only restores a checkpoint for the operator. Such a round has no nodes. */
export function isRollingBack({ rollBack, current }: JobState): boolean {
  return rollBack !== null && current !== null && current.assigned.length === 0;
}

/** Returns whether a pause, a stop or a roll-back takes effect when the round in progress has ended. */
export function hasPendingOrder(state: JobState): boolean {
  return pendingOrders(state).length > 0;
}

/**
 * Text that tells people why a round ends as a null round when the operator rolls the job back. The text lacks the
 * operator's reason, because the roll-back follows at once and gives it.
 */
export const ROLLED_BACK = 'the operator rolled the job back';

/** Returns why a job is rolled back on the order of its operator, as a text for people. */
export function orderReason({ reason }: RollBackOrder): string {
  return `${ROLLED_BACK}${reason === '' ? '' : `: ${reason}`}`;
}

/**
 * Returns the text with which heads tell the nodes that the coordinator has restored a checkpoint.
 * @param to round of the checkpoint
 */
export function restoredText(to: number, why: string): string {
  return `continues from the checkpoint of round ${to}${why === '' ? '' : ` (${why})`}`;
}

/**
 * Returns the reason why a job is paused, waits or has ended, as a text for people. For a paused job with a closed round,
 * the text also says what becomes of the round.
 */
export function reasonText({ phase, reason, current, round }: JobState): string {
  if (phase !== 'paused' || current === null) return reason;
  const closed = `round ${round} is closed, and its updates are merged when the job continues`;
  return reason === '' ? closed : `${reason}; ${closed}`;
}

/** Returns the orders that take effect when the round in progress has ended, in the order of their effect. */
export function pendingOrders(state: JobState): PendingOrder[] {
  const { rollBack, ending, current } = state;
  if (current === null) return [];
  const orders: PendingOrder[] = [];
  if (rollBack !== null && !isRollingBack(state)) orders.push({ action: 'roll-back', ...rollBack });
  if (ending !== null) {
    const action = ending.phase === 'paused' ? 'pause' : 'stop';
    orders.push({ action, reason: ending.reason, to: null });
  }
  return orders;
}
