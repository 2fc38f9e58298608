/**
 * Simulates swarms with faults and adversaries, in one thread per processor.
 *
 *   npm run simulate [-- --seeds 1000] [--from 1] [--long]
 *
 * Prints each seed that violates a rule, and totals. The faults of a run last 10 s of virtual time, and a job has up to 3
 * checkpoints. With --long, the faults last 45 s and a job has up to 6 checkpoints, as in the tests. Exits with 1 after a
 * violation.
 */
import { once } from 'node:events';
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import type { SimulationOptions } from '../test/sim/simulated-swarm.ts';
import { scriptOptions, wholeNumber } from './options.ts';
import type { SimulationReport } from './simulate/worker.ts';

const SHORT: SimulationOptions = { faultsMs: 10_000, maxRounds: 3 };

/** Memory for new objects in each worker, in MiB. With more memory, garbage is collected less often. */
const YOUNG_MIB = 64;

const { values } = scriptOptions(import.meta.filename, {
  options: {
    seeds: { type: 'string', default: '1000' },
    from: { type: 'string', default: '1' },
    long: { type: 'boolean', default: false },
  },
});
const options = values.long ? {} : SHORT;
const seeds = wholeNumber('seeds', values.seeds);
let next = wholeNumber('from', values.from, 0);
const end = next + seeds;
const totals: Record<string, number> = {};
let violated = 0;
function add(name: string, count: number): void {
  totals[name] = (totals[name] ?? 0) + count;
}

const start = performance.now();
await Promise.all(
  Array.from({ length: availableParallelism() }, async () => {
    const worker = new Worker(new URL('simulate/worker.ts', import.meta.url), {
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_MIB },
    });
    while (next < end) {
      const report = await simulate(worker, next++);
      for (const [name, count] of Object.entries(report.counts)) add(name, count);
      for (const kind of report.adversaries) add(kind, 1);
      if (report.violations.length > 0) {
        violated++;
        console.log(`seed ${report.seed}:\n  ${report.violations.join('\n  ')}`);
      }
    }
    await worker.terminate();
  }),
);
const seconds = (performance.now() - start) / 1000;
const facts = Object.entries(totals).map(([name, count]) => `${name} ${count}`);
console.log(`${seeds} seeds in ${seconds.toFixed(1)} s: ${violated} with violations; ${facts.join(', ')}`);
process.exitCode = violated > 0 ? 1 : 0;

/** Simulates one seed in a worker. */
async function simulate(worker: Worker, seed: number): Promise<SimulationReport> {
  worker.postMessage({ seed, options });
  const [report] = await once(worker, 'message');
  return report as SimulationReport;
}
