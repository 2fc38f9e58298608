import type { Health } from '../../monitor/health.ts';
import type { Coordinator } from '../coordinator.ts';
import { pausedItself } from '../round/job-phase.ts';
import type { Store } from '../store/store.ts';

/** Delay of a job's timer, in milliseconds, above which the state machine of the job counts as stopped. */
const OVERDUE_MS = 30_000;

/**
 * Adds the coordinator's health checks. The coordinator is live while every job's state machine runs. It is ready while
 * the store accepts writes, no blob is damaged beyond repair, the clock was not set in the last minutes, and no
 * job has paused itself.
 */
export function addHealthChecks(
  health: Health,
  {
    coordinator,
    store,
    checkDisk,
  }: { coordinator: Coordinator; store: Store; checkDisk: () => Promise<void> },
): void {
  health.add('live', 'rounds', () => {
    const stuck = coordinator.jobs().find(({ driver }) => driver.overdueMs > OVERDUE_MS);
    return stuck
      ? `the timer of job ${stuck.context.stored.name} is more than ${OVERDUE_MS / 1000} s late; restart the coordinator`
      : null;
  });
  health.add('ready', 'store', () => {
    store.probe();
    return null;
  });
  health.add('ready', 'disk', () => checkDisk().then(() => null));
  health.add('ready', 'blobs', () => {
    const [first] = coordinator.repair.damaged;
    return first === undefined ? null : `${first} is damaged, and no connected node has a whole copy`;
  });
  health.add('ready', 'clock', () => coordinator.clockJumps.problem());
  health.add('ready', 'jobs', () => {
    const first = coordinator.jobs().find(({ driver }) => pausedItself(driver.state));
    return first ? `job ${first.context.stored.name} paused itself: ${first.driver.state.reason}` : null;
  });
}
