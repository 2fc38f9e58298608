import type { Health } from '../../monitor/health.ts';
import type { NodeStatus } from '../../protocol/api/node.ts';
import type { NodeStore } from '../store/node-store.ts';

interface CheckedNode {
  readonly status: () => Pick<NodeStatus, 'jobs'>;
  /** Whether the node has one invite only. */
  readonly isOne: boolean;
  readonly store: Pick<NodeStore, 'probe'>;
  readonly checkDisk: () => Promise<void>;
}

/**
 * Adds the node's health checks. The node is ready while it takes part in a job, is connected to a coordinator, and can
 * write to its database and its disk.
 * @returns functions that remove the checks
 */
export function addNodeChecks(
  health: Health,
  { status, isOne, store, checkDisk }: CheckedNode,
): (() => void)[] {
  return [
    health.add('ready', 'job', () => {
      const jobs = status().jobs.filter(({ shutOut }) => shutOut === null);
      if (jobs.some(({ state }) => state !== 'joining')) return null;
      return `not in a job yet: ${jobs.map(({ reason }) => reason).join('; ')}`;
    }),
    health.add('ready', 'coordinator', () =>
      status().jobs.some(({ coordinator }) => coordinator.connected)
        ? null
        : `no connection to ${isOne ? 'the' : 'any'} coordinator; the node keeps dialling`,
    ),
    health.add('ready', 'store', () => {
      store.probe();
      return null;
    }),
    health.add('ready', 'disk', () => checkDisk().then(() => null)),
  ];
}
