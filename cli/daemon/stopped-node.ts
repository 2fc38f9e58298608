import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { NodeStatus } from '../../index.ts';

/** Updates and totals of a node. */
export interface NodeWork {
  readonly updates: readonly Pick<NodeStatus['updates'][number], 'code' | 'outcome'>[];
  readonly totals: NodeStatus['totals'];
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
  const store = NodeStore.open(path);
  try {
    const [newest] = store.updates(1);
    return { updates: newest === undefined ? [] : [newest], totals: store.totals.jobs() };
  } finally {
    store.close();
  }
}
