import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { prepareData } from '../../cli/demo/data.ts';
import type { BenchOptions, BenchRow } from '../bench.ts';
import { type Measured, measureSwarm, measureTrainer, NODES, type Size } from './swarm-sides.ts';

export const name = 'swarm';
export const about =
  'speed of a swarm of 3 nodes and of one trainer with as many threads, measured in turns (5 minutes)';

const ROOT = join(import.meta.dirname, '../..');
const SWARM = 'swarm';
const TARGET = 0.9;
/**
 * Time after which the benchmark is aborted. It takes five minutes on two idle cores, and much longer on busy
 * cores.
 */
const PATIENCE_MS = 60 * 60_000;

/** Size of the full benchmark. Its rounds take about 15 s on two cores; rounds of a real job take minutes. */
const FULL: Size = { localSteps: 48, rounds: 3, repeats: 3 };
const QUICK: Size = { localSteps: 12, rounds: 2, repeats: 1 };

/**
 * Compares the training speed of a swarm with the speed of one trainer process on the same tokens. The two take turns.
 * The trainer has as many threads as all nodes together. The swarm is a coordinator and nodes on loopback, with
 * exchange, merge and gate. Run the benchmark on an idle machine, because it measures time by the wall clock. A busy
 * machine shares its cores among processes, and the swarm has more processes than the trainer.
 */
export async function run(report: (row: BenchRow) => void, options: BenchOptions): Promise<void> {
  const size = options.quick ? QUICK : FULL;
  const folder = await mkdtemp(join(tmpdir(), 'swarm-bench-'));
  const signal = AbortSignal.timeout(PATIENCE_MS);
  const [load] = loadavg() as [number, number, number];
  // The load is an average over a minute. A benchmark that has just ended can still add 1 to it for each core.
  if (load > availableParallelism() + 1) {
    options.log(`swarm: the machine is busy (load ${load.toFixed(0)}): only processor times are reliable`);
  }
  // More threads than cores slow each other down, so a trainer with one thread per core is measured too.
  const cores = Math.min(NODES, availableParallelism());
  const trainers = [...new Set([NODES, cores])];
  const sides = new Map<string, () => Promise<Measured>>();
  const found = new Map<string, Measured[]>();
  try {
    const data = await prepareData(join(folder, 'data'), { cwd: ROOT });
    let run = 0;
    sides.set(SWARM, () => measureSwarm(join(folder, `swarm-${run++}`), data, size, signal));
    for (const threads of trainers) {
      sides.set(trainerName(threads), () => measureTrainer(folder, threads, data, size, signal));
    }
    for (let repeat = 0; repeat < size.repeats; repeat++) {
      const order = [...sides];
      for (const [side, measure] of repeat % 2 === 0 ? order : order.reverse()) {
        const measured = await measure();
        found.set(side, [...(found.get(side) ?? []), measured]);
        options.log(`swarm: ${side}: ${measured.tokensPerSecond.toFixed(0)} tokens/s`);
      }
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  const where = `${NODES} nodes of 1 thread, rounds of ${size.localSteps} steps`;
  const fact = { target: null, met: null };
  for (const [side, all] of found) {
    const reference = side === SWARM ? where : 'the same tokens, no swarm';
    const speed = median(all.map(({ tokensPerSecond }) => tokensPerSecond));
    report({ name: side, value: speed, unit: 'tokens/s', ...fact, reference });
    const processor = all.flatMap((one) => one.processor ?? []);
    if (processor.length > 0) {
      const unit = 'CPU ms per 1,000 tokens';
      report({ name: `${side}, processor time`, value: median(processor), unit, ...fact, reference });
    }
  }
  const swarm = found.get(SWARM)!;
  report({
    name: 'swarm, time outside training',
    value: median(swarm.map((one) => 100 * one.between!)),
    unit: '% of the time',
    ...fact,
    reference:
      'exchange, merge, gate and next head; the training of a round lasts until its slowest node ends',
  });
  for (const threads of trainers) {
    const single = found.get(trainerName(threads))!;
    const ratios = swarm.map((one, i) => one.tokensPerSecond / single[i]!.tokensPerSecond);
    const value = median(ratios);
    const same = threads === NODES;
    const spread = `${Math.min(...ratios).toFixed(2)} to ${Math.max(...ratios).toFixed(2)}`;
    report({
      name: `swarm / ${trainerName(threads)}`,
      value,
      unit: '×',
      target: same ? TARGET : null,
      met: same ? value >= TARGET : null,
      reference:
        `${where}; median of ${size.repeats} in alternation (${spread}), ` +
        `${availableParallelism()} cores, load ${loadavg()[0]!.toFixed(0)}`,
    });
  }
}

function trainerName(threads: number): string {
  return `one trainer of ${threads} threads`;
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!;
}
