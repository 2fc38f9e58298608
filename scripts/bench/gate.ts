import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { changeOf, meanLoss } from '../../coordinator/merge/comparison.ts';
import type { RowLoss } from '../../lora/train/step.ts';
import type { BenchOptions, BenchRow } from '../bench.ts';
import { nanoTrainer, prepare } from './learning.ts';
import { learn, type Swarm, type Variant } from './learning-run.ts';

export const name = 'gate';
export const about =
  'how much the held-out loss varies between rounds of honest nodes, at four learning rates (10 minutes)';

const SWARM: Swarm = { nodes: 4, rounds: 30, steps: 5, batchSize: 4 };
const VARIANT: Variant = { kind: 'balanced', decay: 0.5, floor: 0.25 };
/** Number of held-out rows that the gate reads by default. */
const HELD_OUT_ROWS = 64;

/** Runs with honest nodes. In runs with few training rows, the adapter overfits, and the held-out loss rises. */
const RUNS = [
  { learningRate: 1e-3, trainingRows: Infinity },
  { learningRate: 3e-3, trainingRows: Infinity },
  { learningRate: 1e-2, trainingRows: Infinity },
  { learningRate: 3e-2, trainingRows: Infinity },
  { learningRate: 3e-3, trainingRows: 80 },
];

/**
 * Runs honest swarms of four nodes without a gate, and compares the held-out losses of each checkpoint with the losses
 * of its parent and of the best checkpoint so far. The limits of the gate must lie above the greatest increases that
 * this benchmark measures.
 */
export async function run(report: (row: BenchRow) => void, options: BenchOptions): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'swarm-bench-gate-'));
  const { trainer, rows, heldOut } = await prepare(folder);
  await trainer.dispose();
  const rounds = options.quick ? 2 : SWARM.rounds;
  const gateRows = heldOut.filter((_, i) => i % Math.ceil(heldOut.length / HELD_OUT_ROWS) === 0);
  try {
    for (const { learningRate, trainingRows } of RUNS) {
      const trainer = await nanoTrainer(folder, { learningRate });
      try {
        const losses: (readonly RowLoss[])[] = [];
        await learn(VARIANT, { ...SWARM, rounds }, 1, {
          trainer,
          rows: rows.slice(0, trainingRows),
          heldOut: gateRows,
          onRound: async (adapter) => {
            trainer.setParameters(adapter);
            losses.push(await trainer.evaluate(gateRows));
          },
        });
        const where = `learning rate ${learningRate}${Number.isFinite(trainingRows) ? `, ${trainingRows} rows` : ''}`;
        summarise(where, losses, report, options.log);
      } finally {
        await trainer.dispose();
      }
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function summarise(
  where: string,
  losses: readonly (readonly RowLoss[])[],
  report: (row: BenchRow) => void,
  log: (line: string) => void,
): void {
  let best = losses[0]!;
  const most = { worsening: 0, twoErrors: 0, worstRows: 0, overBest: 0, worstOverBest: 0 };
  for (const [i, after] of losses.entries()) {
    if (i === 0) continue;
    const step = changeOf(losses[i - 1]!, after)!;
    const overBest = changeOf(best, after)!;
    const found = {
      worsening: step.worsening,
      twoErrors: 2 * step.standardError,
      worstRows: step.worstRows,
      overBest: overBest.worsening,
      worstOverBest: overBest.worstRows,
    };
    log(
      `${where}, round ${i}: loss ${meanLoss(after)!.toFixed(4)}; ${Object.entries(found)
        .map(([what, share]) => `${what} ${percent(share)}`)
        .join(', ')}`,
    );
    for (const key of Object.keys(most) as (keyof typeof most)[]) most[key] = Math.max(most[key], found[key]);
    if (overBest.worsening < 0) best = after;
  }
  const figures: Record<keyof typeof most, string> = {
    worsening: 'greatest increase in a round',
    twoErrors: 'greatest two standard errors in a round',
    worstRows: 'greatest increase of the worst rows in a round',
    overBest: 'greatest increase over the best checkpoint',
    worstOverBest: 'greatest increase of the worst rows over the best checkpoint',
  };
  for (const [key, what] of Object.entries(figures) as [keyof typeof most, string][]) {
    report({
      name: `${name} ${where}, ${what}`,
      value: 100 * most[key],
      unit: '% of the loss',
      target: null,
      met: null,
      reference: `${losses.length - 1} rounds, ${best.length} rows, best loss ${meanLoss(best)!.toFixed(4)}`,
    });
  }
}

function percent(share: number): string {
  return `${(100 * share).toFixed(3)} %`;
}
