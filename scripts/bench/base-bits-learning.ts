import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { initialMatrices } from '../../lora/adapter/initial.ts';
import type { BaseBits } from '../../lora/models/base/base-bits.ts';
import type { Trainer } from '../../lora/train/trainer.ts';
import type { BenchOptions, BenchRow } from '../bench.ts';
import { nanoTrainer, prepare } from './learning.ts';
import { type LearningDeps, learn } from './learning-run.ts';

export const name = 'base-bits-learning';
export const about =
  'loss after training on an 8-bit or 4-bit base, on one machine and in a swarm with different base bits (4 minutes)';

/** Number of steps of the run on one machine. */
const STEPS = 96;
const QUICK_STEPS = 24;
const SEEDS = [1, 2, 3];
/** Limit on the percentage by which the final loss may exceed the final loss of training on a 32-bit base. */
const TARGETS: Readonly<Record<BaseBits, number>> = { 32: 0, 8: 0.5, 4: 2 };
const SWARM = { nodes: 4, rounds: 6, steps: 10, batchSize: 4 };
const BALANCED = { kind: 'balanced', decay: 0.5, floor: 0.25 } as const;
const MIXED: readonly BaseBits[] = [32, 8, 4, 4];

interface Case {
  readonly label: string;
  readonly bits: BaseBits;
  readonly trainer: Trainer;
}

/**
 * Fine-tunes models/nano on Moby Dick, first on one machine and then in a swarm. One machine takes the same steps on
 * a 32-bit, an 8-bit and a 4-bit base. Each adapter is evaluated on the base that it was trained on and, as a
 * coordinator does, on the 32-bit base. A swarm of four nodes with 32, 8, 4 and 4 base bits is compared with a
 * swarm of four nodes with 32-bit bases, with the real codec and merge. Equal seeds draw the same rows, so losses are
 * compared seed by seed.
 */
export async function run(report: (row: BenchRow) => void, options: BenchOptions): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'swarm-bench-base-bits-'));
  const deps = await prepare(folder);
  const cases: Case[] = [];
  try {
    for (const [bits, roundActivations] of [
      [8, true],
      [8, false],
      [4, true],
    ] as const) {
      const trainer = await nanoTrainer(folder, { bits, roundActivations });
      cases.push({ label: `${bits}${roundActivations ? '' : '-exact'}`, bits, trainer });
    }
    const seeds = options.quick ? SEEDS.slice(0, 1) : SEEDS;
    const steps = options.quick ? QUICK_STEPS : STEPS;
    const row = (what: string, ratios: readonly number[], target: number | null, reference: string) => {
      const percent = (ratio: number) => (ratio - 1) * 100;
      const value = percent(mean(ratios));
      const met = target === null ? null : value <= target;
      const worst = `worst of ${ratios.length} seeds ${percent(Math.max(...ratios)).toFixed(2)}`;
      report({
        name: `${name}.${what}`,
        value,
        unit: '% more',
        target,
        met,
        reference: `${reference}; ${worst}`,
      });
    };
    const full: number[] = [];
    for (const seed of seeds) full.push((await trainAlone(deps.trainer, seed, steps, deps)).onFull);
    const against = `loss ${mean(full).toFixed(4)} on 32 bits, ${steps} steps`;
    for (const { label, bits, trainer } of cases) {
      const found: { own: number; onFull: number }[] = [];
      for (const seed of seeds) found.push(await trainAlone(trainer, seed, steps, deps));
      const over = (losses: readonly number[]) => losses.map((loss, i) => loss / full[i]!);
      row(`loss-${label}`, over(found.map(({ own }) => own)), TARGETS[bits], against);
      row(`loss-${label}-on-32`, over(found.map(({ onFull }) => onFull)), TARGETS[bits], against);
    }
    const trainers = new Map(cases.map(({ label, trainer }) => [label, trainer]));
    const nodeTrainers = MIXED.map((bits) => trainers.get(`${bits}`) ?? deps.trainer);
    const swarms: number[] = [];
    const losses: number[] = [];
    for (const seed of seeds) {
      const { loss: same } = await learn(BALANCED, SWARM, seed, deps);
      const { loss: mixed } = await learn(BALANCED, SWARM, seed, { ...deps, nodeTrainers });
      losses.push(same);
      swarms.push(mixed / same);
    }
    row('swarm-mixed', swarms, TARGETS[4], `loss ${mean(losses).toFixed(4)} with four nodes of 32 bits`);
  } finally {
    for (const { trainer } of cases) await trainer.dispose();
    await deps.trainer.dispose();
    await rm(folder, { recursive: true, force: true });
  }
}

/** Trains on one machine. Returns the held-out loss on the trainer's own base and on the 32-bit base. */
async function trainAlone(
  trainer: Trainer,
  seed: number,
  steps: number,
  { trainer: evaluator, rows, heldOut }: LearningDeps,
) {
  trainer.setParameters(initialMatrices(trainer.layout, seed));
  const zeros = () => trainer.layout.map(({ shape }) => new Float32Array(shape.reduce((a, b) => a * b, 1)));
  trainer.setOptimizerState({ step: 0, m: zeros(), v: zeros() });
  const count = steps * SWARM.batchSize;
  const chosen = Array.from({ length: count }, (_, i) => rows[(i * 37 + seed * 101) % rows.length]!);
  await trainer.train({ rows: chosen, steps });
  const loss = async (on: Trainer) => {
    const losses = await on.evaluate(heldOut);
    return (
      losses.reduce((sum, { lossSum }) => sum + lossSum, 0) /
      losses.reduce((sum, { tokens }) => sum + tokens, 0)
    );
  };
  const own = await loss(trainer);
  evaluator.setParameters(trainer.parameters());
  return { own, onFull: await loss(evaluator) };
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
