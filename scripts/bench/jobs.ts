import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { prepareData } from '../../cli/demo/data.ts';
import type { BenchOptions, BenchRow } from '../bench.ts';
import { type JobsMeasured, type JobsSize, measureJobs, NODES } from './jobs-swarm.ts';
import { baseToSwitch, measureSwitching } from './jobs-switching.ts';

export const name = 'jobs';
export const about =
  'time of two jobs on 4 nodes, at once and one after the other, and the cost of a second job (6 minutes)';

const ROOT = join(import.meta.dirname, '../..');
/**
 * Maximum time of two jobs that run at once, as a multiple of the time of the same jobs one after the other.
 */
const TARGET_TIME = 1.1;
/**
 * Maximum difference, in percent, between the final loss of a job that runs alone and the final loss of the
 * same job when another job runs at the same time. Two runs of the same job differ by about as much.
 */
const TARGET_LOSS = 0.5;
const FULL: JobsSize & { repeats: number } = { rounds: 3, localSteps: 20, repeats: 2 };
const QUICK: JobsSize & { repeats: number } = { rounds: 2, localSteps: 6, repeats: 1 };
const PATIENCE_MS = 60 * 60_000;
/** The parts of the benchmark, for --shape. */
const PARTS = ['swarm', 'trainer'];
export const shapes = PARTS;
const MEBIBYTE = 2 ** 20;

/**
 * Runs two jobs on the same nodes, at the same time and one after the other, and compares the time and the
 * losses. Runs of both kinds alternate, so that other load on the machine affects both. Then measures the
 * memory and time that a second job costs in a trainer process.
 */
export async function run(report: (row: BenchRow) => void, options: BenchOptions): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'jobs-bench-'));
  try {
    const parts = options.shapes ?? PARTS;
    if (parts.includes('swarm')) await compareSwarms(folder, report, options);
    if (parts.includes('trainer')) await compareTrainers(folder, report, options);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function compareSwarms(
  folder: string,
  report: (row: BenchRow) => void,
  options: BenchOptions,
): Promise<void> {
  const size = options.quick ? QUICK : FULL;
  const signal = AbortSignal.timeout(PATIENCE_MS);
  const data = await prepareData(join(folder, 'data'), { cwd: ROOT });
  const found = { together: [] as JobsMeasured[], apart: [] as JobsMeasured[] };
  for (let repeat = 0; repeat < size.repeats; repeat++) {
    const order = repeat % 2 === 0 ? (['apart', 'together'] as const) : (['together', 'apart'] as const);
    for (const side of order) {
      const measured = await measureJobs(
        join(folder, `${side}-${repeat}`),
        data,
        size,
        side === 'together',
        signal,
      );
      found[side].push(measured);
      const { seconds, processor, losses } = measured;
      const used = processor === null ? '' : `, ${processor.toFixed(0)} s of processor time`;
      options.log(
        `jobs: ${side}: ${seconds.toFixed(1)} s${used}, losses ${losses.map((loss) => loss.toFixed(4))}`,
      );
    }
  }
  const where =
    `${NODES} nodes of 1 thread, ${size.rounds} rounds of ${size.localSteps} steps, ${size.repeats} runs of each, ` +
    `${availableParallelism()} cores, load ${loadavg()[0]!.toFixed(0)}`;
  const ratio = (of: (one: JobsMeasured) => number): number =>
    median(found.together.map(of)) / median(found.apart.map(of));
  const time = ratio(({ seconds }) => seconds);
  report({
    name: 'time at once / one after the other',
    value: time,
    unit: '×',
    target: TARGET_TIME,
    met: time <= TARGET_TIME,
    reference: where,
  });
  const processor = ratio((one) => one.processor ?? Number.NaN);
  if (!Number.isNaN(processor)) {
    report({
      name: 'processor time at once / one after the other',
      value: processor,
      unit: '×',
      target: null,
      met: null,
      reference: where,
    });
  }
  const differences = [0, 1].map((job) => 100 * Math.abs(ratio(({ losses }) => losses[job]!) - 1));
  const loss = Math.max(...differences);
  report({
    name: 'difference of the final losses',
    value: loss,
    unit: '%',
    target: TARGET_LOSS,
    met: loss <= TARGET_LOSS,
    reference: `the larger of two jobs; ${where}`,
  });
}

async function compareTrainers(
  folder: string,
  report: (row: BenchRow) => void,
  options: BenchOptions,
): Promise<void> {
  const quick = options.quick ?? false;
  const modelDir = await baseToSwitch(folder, quick);
  const where = `${quick ? 'models/nano' : 'the 135M shape'}, 4 × 128 tokens, 1 thread`;
  const control = await measureSwitching(modelDir, { first: 16, second: null }, folder);
  report({
    name: 'growth of memory without a second job',
    value: control.extraBytes / MEBIBYTE,
    unit: 'MiB',
    target: null,
    met: null,
    reference: where,
  });
  for (const [label, second] of [
    ['with the same rank', 16],
    ['with another rank', 8],
  ] as const) {
    const { extraBytes, allowedBytes, same, changed } = await measureSwitching(
      modelDir,
      { first: 16, second },
      folder,
    );
    const extra = extraBytes - control.extraBytes;
    report({
      name: `memory of a second job ${label}`,
      value: extra / MEBIBYTE,
      unit: 'MiB',
      target: allowedBytes / MEBIBYTE,
      met: extra <= allowedBytes,
      reference: `${where}; without the growth above; the target is adapter, moments and rows of rank ${second}`,
    });
    report({
      name: `change to a job ${label}`,
      value: changed - same,
      unit: 's',
      target: null,
      met: null,
      reference: `a round of one step takes ${same.toFixed(2)} s without it; ${where}`,
    });
  }
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  return (sorted[Math.ceil(middle) - 1]! + sorted[Math.floor(middle)]!) / 2;
}
