import type { Effect, MachineEvent } from '../round/state.ts';

/** Events about peers that come and go. */
const PRESENCE: readonly MachineEvent['type'][] = ['peer-ready', 'peer-gone', 'gave-up'];
/** Effects that sign a new head, or end a round. */
const HEADED: readonly Effect['type'][] = ['open', 'announce', 'discard'];

/**
 * Returns what a held job does with an event (see `StartHolds`).
 *
 * - `postpone`: all changes of presence wait for the end of the hold, in their order.
 * - `refuse`: an update that would sign a head is refused as busy, because its author gets a receipt. The author sends the
 *   update again.
 * - `ignore`: a pause because of a full disk is asked for again after the hold.
 * - `release`: an order of the operator ends the hold, because the operator must not wait for nodes.
 */
export function duringHold(
  event: MachineEvent,
  effects: readonly Effect[],
): 'apply' | 'postpone' | 'refuse' | 'ignore' | 'release' {
  if (PRESENCE.includes(event.type)) return 'postpone';
  if (!effects.some(({ type }) => HEADED.includes(type))) return 'apply';
  if (event.type === 'update' || event.type === 'excluded') return 'refuse';
  return event.type === 'pause' && event.cause !== 'operator' ? 'ignore' : 'release';
}
