import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { NodeStatus } from '../../index.ts';

/** Updates and totals of a node. */
export interface NodeWork {
  readonly updates: readonly Pick<NodeStatus['updates'][number], 'code' | 'outcome'>[];
  readonly totals: NodeStatus['totals'];
  /** Digests of the jobs in `totals` that the node joins again at its next start. */
  readonly running: readonly string[];
}

/**
 * Reads the work of a stopped node from the node's home. The last status of the node can be older, because receipts
 * arrive while the node stops.
 * @returns null if the home has no database
 */
export async function stoppedNode(home: string): Promise<NodeWork | null> {
  const path = join(home, 'node.sqlite');
  if (!existsSync(path)) return null;
  const { NodeStore } = await import('../../node/store/node-store.ts');
  const { readKnownJobs } = await import('../../node/store/known-jobs.ts');
  const known = await readKnownJobs(home);
  const store = NodeStore.open(path);
  try {
    const [newest] = store.updates(1);
    const totals = store.totals.jobs();
    // An invite without a digest names its job only by the name that the node has seen last.
    const running = totals.filter(({ job, name }) =>
      known.some((one) => one.job === job || (one.job === null && one.name !== null && one.name === name)),
    );
    return {
      ...{ updates: newest === undefined ? [] : [newest], totals },
      running: running.map(({ job }) => job),
    };
  } finally {
    store.close();
  }
}
