import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CLOSENESS_LINES, passes } from '../../coordinator/audits/verdict.ts';
import type { Row } from '../../lora/data/row.ts';
import { freshOptimizer } from '../../lora/train/optimizer/optimizer-state.ts';
import type { Trainer } from '../../lora/train/trainer.ts';
import { likeness, type RepeatedSteps } from '../../lora/update/closeness.ts';
import type { BenchOptions, BenchRow } from '../bench.ts';
import { ATTACKS, type Attack } from './attackers.ts';
import { prepare } from './learning.ts';
import { HONEST, type RoundSettings, STEPS, trainRounds } from './round-training.ts';

export const name = 'audits';
export const about = 'how close updates are to a repetition of their training, in each round; half an hour';

/** Attacks that the scores do not find, or find late. */
const MEMBERS: Readonly<Record<string, Attack>> = {
  ...Object.fromEntries(
    [
      'lazy, scaled up',
      'half the steps, scaled up',
      'copy',
      'copy with noise',
      'ALIE',
      'shuffled labels',
    ].map((attack) => [attack, ATTACKS[attack]!]),
  ),
  'own work minus the mean': ATTACKS['own work minus the mean']!,
  'a quarter of the rows': async ({ rows, train }) =>
    train(rows.map((_, i) => rows[i % Math.ceil(rows.length / 4)]!)),
};

/** Trains the interval of every update again from the round's adapter, as an audit does, and compares the results. */
export async function run(report: (row: BenchRow) => void, options: BenchOptions): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'swarm-bench-audits-'));
  const deps = await prepare(folder);
  try {
    for (const preset of options.quick ? (['balanced'] as const) : (['balanced', 'dense', 'tiny'] as const)) {
      const settings = { preset, split: false, rounds: options.quick ? 2 : 5, seed: 1 };
      await measure(settings, deps, report, options.log);
    }
  } finally {
    await deps.trainer.dispose();
    await rm(folder, { recursive: true, force: true });
  }
}

async function measure(
  settings: RoundSettings,
  deps: { trainer: Trainer; rows: readonly Row[] },
  report: (row: BenchRow) => void,
  log: (line: string) => void,
): Promise<void> {
  const { preset, rounds } = settings;
  const members = Object.entries(MEMBERS);
  const seen = new Map<string, { closeness: number[]; balance: number[]; passed: number }>();
  for await (const { round, adapter, shares, updates } of trainRounds(
    members.map(([, attack]) => attack),
    settings,
    deps,
  )) {
    for (const [i, update] of updates.entries()) {
      const who = i < HONEST ? 'honest' : members[i - HONEST]![0];
      const steps = await repeat(adapter, shares[i]!, round, deps.trainer);
      const found = likeness(update, steps);
      const known = seen.get(who) ?? { closeness: [], balance: [], passed: 0 };
      known.closeness.push(found.closeness);
      known.balance.push(found.balance);
      if (passes(found, { preset, isFirst: round === 1 })) known.passed++;
      seen.set(who, known);
      log(
        `round ${round} ${who}: closeness ${found.closeness.toFixed(2)} balance ${found.balance.toFixed(2)}`,
      );
    }
  }
  const range = (values: readonly number[]): string =>
    `${Math.min(...values).toFixed(2)} to ${Math.max(...values).toFixed(2)}`;
  for (const [who, { closeness, balance, passed }] of seen) {
    const isHonest = who === 'honest';
    report({
      name: `${name} ${who}`,
      value: isHonest ? Math.min(...closeness) : Math.max(...closeness),
      unit: '',
      target: isHonest ? CLOSENESS_LINES[preset].least : null,
      met: isHonest ? passed === closeness.length : null,
      reference: `${preset}, ${rounds} rounds; ${passed} of ${closeness.length} pass; closeness ${range(closeness)}, balance ${range(balance)}`,
    });
  }
}

/** Repeats the steps of an interval. */
async function repeat(
  before: readonly Float32Array[],
  rows: readonly Row[],
  round: number,
  trainer: Trainer,
): Promise<RepeatedSteps> {
  const earlier = STEPS * (round - 1);
  const half = Math.ceil(STEPS / 2);
  const batch = rows.length / STEPS;
  trainer.setParameters(before);
  trainer.setOptimizerState(freshOptimizer(trainer.layout));
  const train = (first: number, last: number) => {
    const position = { start: earlier + first, perStep: 1, before: earlier };
    return trainer.train({ rows: rows.slice(first * batch, last * batch), steps: last - first, position });
  };
  await train(0, half);
  const middle = trainer.parameters();
  await train(half, STEPS);
  return { before, middle, after: trainer.parameters() };
}
