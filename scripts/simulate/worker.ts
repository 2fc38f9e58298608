/** Simulates seeds that the parent sends, one at a time. */
import '../../test/sim/cheap-crypto.ts';
import { parentPort } from 'node:worker_threads';
import type { SimulationOptions } from '../../test/sim/simulated-swarm.ts';

// These imports are dynamic, so that they run after the first import of this file has replaced functions.
const { SimulatedSwarm } = await import('../../test/sim/simulated-swarm.ts');
const { silentLogger } = await import('../../monitor/logs/log.ts');
const { DatabasePool } = await import('../../test/utils/virtual/database-pool.ts');

const databases = new DatabasePool();

/** The outcome of one seed. */
export interface SimulationReport {
  readonly seed: number;
  readonly violations: readonly string[];
  readonly counts: Readonly<Record<string, number>>;
  readonly adversaries: readonly string[];
}

parentPort!.on('message', async ({ seed, options }: { seed: number; options: SimulationOptions }) => {
  const swarm = new SimulatedSwarm(seed, silentLogger, { ...options, databases });
  const violations = await swarm.run();
  databases.reuse();
  const adversaries = swarm.adversaries.map(({ kind }) => kind);
  parentPort!.postMessage({
    seed,
    violations,
    counts: swarm.counts,
    adversaries,
  } satisfies SimulationReport);
});
