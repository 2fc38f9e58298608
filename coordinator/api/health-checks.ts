import type { Health } from '../../monitor/health.ts';
import type { Coordinator } from '../coordinator.ts';
import { needsOperator } from '../round/round-machine.ts';
import type { Store } from '../store/store.ts';

/** A state machine whose timer is this late no longer turns. */
const OVERDUE_MS = 30_000;

/** Live: every job's machine turns. Ready: the store takes writes, and no job waits for its operator. */
export function addHealthChecks(
  health: Health,
  { coordinator, store }: { coordinator: Coordinator; store: Store },
): void {
  health.add('live', 'rounds', () => {
    const stuck = coordinator.jobs().find(({ overdueMs }) => overdueMs > OVERDUE_MS);
    return stuck
      ? `job ${stuck.context.stored.name} has missed its time to move on; restart the coordinator`
      : null;
  });
  health.add('ready', 'store', () => {
    store.probe();
    return null;
  });
  health.add('ready', 'jobs', () => {
    const first = coordinator.jobs().find(({ state }) => needsOperator(state));
    return first ? `job ${first.context.stored.name} paused itself: ${first.state.reason}` : null;
  });
}
