import { safeText } from '../common/text.ts';
import type { PendingOrder } from '../protocol/api/coordinator.ts';

interface JobWithOrders {
  readonly round: number;
  readonly rounds: number;
  readonly roundsDone: number;
  readonly pendingOrders: readonly PendingOrder[];
}

/** Returns what the pending orders of a job will do, and when; an empty text without such orders. */
export function ordersText({ round, rounds, roundsDone, pendingOrders }: JobWithOrders): string {
  return pendingOrders
    .map(({ action, reason, to }) => {
      const because = reason === '' ? '' : `: ${safeText(reason)}`;
      if (action === 'roll-back')
        return `restores the checkpoint of round ${to} when round ${round} has ended${because}`;
      if (action === 'stop') return `stops when round ${round} has ended${because}`;
      const isLast = roundsDone + 1 >= rounds;
      return `pauses when round ${round} has ended${isLast ? ', unless this round completes the job' : ''}${because}`;
    })
    .join('; ');
}

/** Returns the pending orders of a job in a few words for a table; an empty text without such orders. */
export function shortOrdersText({ pendingOrders }: Pick<JobWithOrders, 'pendingOrders'>): string {
  const states = { pause: 'paused', stop: 'stopped', 'roll-back': 'rolled back' };
  return pendingOrders.map(({ action }) => `, then ${states[action]}`).join('');
}
