import { countOf, formatLoss, safeText } from '../../common/text.ts';
import { WORSE_SHARE } from '../../monitor/job-health.ts';
import type { JobEvent } from '../../protocol/api/job-events.ts';

/** Types of the messages that webhooks get. */
export const WEBHOOK_EVENTS = [
  'job-finished',
  'job-stopped',
  'job-paused',
  'peer-banned',
  'loss-up',
] as const;
export type WebhookEvent = (typeof WEBHOOK_EVENTS)[number];

/** Types of the job events from which messages are made. */
export const SOURCES = ['checkpoint', 'rolled-back', 'paused', 'finished', 'banned'] as const;

/** Facts about the losses of a job that a webhook keeps between two events. */
export interface LossMemory {
  /** Lowest held-out loss of the job since its newest roll-back; null if none was measured. */
  readonly lowest: number | null;
  /** Whether the newest held-out loss exceeds the lowest one by more than `WORSE_SHARE`. */
  readonly isUp: boolean;
}

/** A fact that a message reports. */
export interface News {
  readonly type: WebhookEvent;
  /** The fact in one sentence. */
  readonly text: string;
  readonly data: Readonly<Record<string, unknown>>;
}

/** Facts about the job of an event. */
export interface NewsContext {
  readonly name: string;
  /** Whether the job paused itself and waits for its operator. */
  readonly needsOperator: boolean;
}

/**
 * Returns the news of an event, or null if the event needs no message. `memory` has the facts from earlier events. The
 * result has the `memory` for the next event.
 */
export function newsOf(
  event: JobEvent,
  memory: LossMemory,
  { name, needsOperator }: NewsContext,
): { news: News | null; memory: LossMemory } {
  const same = (news: News | null) => ({ news, memory });
  switch (event.type) {
    case 'finished': {
      const { round, heldOutLoss, baseLoss, stopReason } = event;
      const losses =
        heldOutLoss === null || baseLoss === null
          ? ''
          : `; held-out loss ${formatLoss(heldOutLoss)} (initial adapter: ${formatLoss(baseLoss)})`;
      const data = { round, heldOutLoss, baseLoss };
      if (stopReason === undefined) {
        const text = `job ${name} has finished after round ${round}${losses}`;
        return same({ type: 'job-finished', text, data });
      }
      const reason = safeText(stopReason);
      const text = `job ${name} was stopped after round ${round}${reason === '' ? '' : ` (${reason})`}${losses}`;
      return same({ type: 'job-stopped', text, data: { ...data, reason } });
    }
    case 'paused': {
      // A pause that the operator ordered needs no message.
      if (!needsOperator) return same(null);
      const reason = safeText(event.reason);
      const text = `job ${name} has paused itself and waits for its operator: ${reason}`;
      return same({ type: 'job-paused', text, data: { reason } });
    }
    case 'banned': {
      const { peer, cause, until } = event;
      const reason = safeText(event.reason);
      const text = `node ${peer} is banned from job ${name}${reason === '' ? '' : `: ${reason}`}`;
      return same({ type: 'peer-banned', text, data: { peer, cause, reason, until: dateOf(until) } });
    }
    case 'rolled-back':
      return { news: null, memory: { lowest: event.heldOutLoss, isUp: false } };
    case 'checkpoint':
      return afterCheckpoint(event, memory, name);
    default:
      return same(null);
  }
}

/**
 * Reports a held-out loss that has risen by more than `WORSE_SHARE` above the lowest held-out loss. Makes the
 * next report only after the loss has been below this threshold again.
 */
function afterCheckpoint(
  { round, heldOutLoss }: Extract<JobEvent, { type: 'checkpoint' }>,
  { lowest, isUp }: LossMemory,
  name: string,
): { news: News | null; memory: LossMemory } {
  if (heldOutLoss === null) return { news: null, memory: { lowest, isUp } };
  if (lowest === null || heldOutLoss <= lowest) {
    return { news: null, memory: { lowest: heldOutLoss, isUp: false } };
  }
  const isUpNow = heldOutLoss > lowest * (1 + WORSE_SHARE);
  const memory = { lowest, isUp: isUpNow };
  if (!isUpNow || isUp) return { news: null, memory };
  const percent = (100 * (heldOutLoss / lowest - 1)).toFixed(1);
  const text = `the held-out loss of job ${name} is ${formatLoss(heldOutLoss)} after ${countOf(round, 'round')}, ${percent} % above the lowest one (${formatLoss(lowest)})`;
  return { news: { type: 'loss-up', text, data: { round, heldOutLoss, lowestLoss: lowest } }, memory };
}

function dateOf(at: number | null): string | null {
  return at === null ? null : new Date(at).toISOString();
}
