import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AUDIT_LINES, passes } from '../../coordinator/audits/verdict.ts';
import type { Row } from '../../lora/data/row.ts';
import { freshOptimizer } from '../../lora/train/optimizer/optimizer-state.ts';
import type { Trainer } from '../../lora/train/trainer.ts';
import { decodeUpdate, ErrorFeedback, type Preset } from '../../lora/update/index.ts';
import { auditFigures, type RepeatedSteps } from '../../lora/update/score.ts';
import type { BenchOptions, BenchRow } from '../bench.ts';
import { ATTACKS, type Attack, SEPARATOR } from './attackers.ts';
import { type AuditSetting, bookRows, SETTINGS, trainersOf } from './audit-settings.ts';
import { HONEST, trainRounds } from './round-training.ts';

export const name = 'audits';
export const about =
  'how close updates are to the result of an audit, in several settings (1 to 2 minutes per setting)';

export const shapes = Object.keys(SETTINGS);
const PRESETS: readonly Preset[] = ['tiny', 'balanced', 'quality', 'dense'];
const ROUNDS = 4;

/** Attacks that option --attack can choose. */
const MEMBERS: Readonly<Record<string, Attack>> = {
  ...ATTACKS,
  'a quarter of the rows': async ({ rows, train }) =>
    train(rows.map((_, i) => rows[i % Math.ceil(rows.length / 4)]!)),
};
/** The measured attacks if there is no option --attack: attacks that the scores do not find, or find late. */
const DEFAULT_MEMBERS = [
  'lazy, scaled up',
  'half the steps, scaled up',
  'a quarter of the rows',
  'copy',
  'ALIE',
  'shuffled labels',
];

/** Results of the audits of one kind of node with one preset. */
interface Seen {
  readonly closeness: number[];
  readonly balance: number[];
  passed: number;
}

/**
 * Trains the interval of every update again from the round's adapter, like an audit, and compares the result with the
 * update. All nodes train once, and their changes are compressed with each preset. The merges use the preset
 * `balanced`.
 */
export async function run(report: (row: BenchRow) => void, options: BenchOptions): Promise<void> {
  const { quick = false, choices = {}, shapes: chosen = quick ? ['nano'] : Object.keys(SETTINGS) } = options;
  const members = choices.attack?.split(SEPARATOR) ?? (quick ? ['shuffled labels'] : DEFAULT_MEMBERS);
  const rounds = Number(choices.rounds ?? (quick ? 2 : ROUNDS));
  const folder = await mkdtemp(join(tmpdir(), 'swarm-bench-audits-'));
  try {
    for (const label of chosen) {
      const setting = SETTINGS[label]!;
      for (let seed = 1; seed <= Number(choices.seeds ?? 1); seed++) {
        const seen = await measure(setting, { members, rounds, seed, folder, log: options.log });
        for (const [key, found] of seen) report(rowOf(`${label}, seed ${seed}`, key, found));
      }
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Returns the results of the audits, by preset and kind of node. */
async function measure(
  setting: AuditSetting,
  options: {
    members: readonly string[];
    rounds: number;
    seed: number;
    folder: string;
    log: (line: string) => void;
  },
): Promise<Map<string, Seen>> {
  const { members, rounds, seed, folder, log } = options;
  const { nodes, coordinator, dispose } = await trainersOf(setting, folder);
  const seen = new Map<string, Seen>();
  const feedbacks = PRESETS.map(() =>
    Array.from({ length: HONEST + members.length }, () => new ErrorFeedback({ layout: nodes.layout })),
  );
  const { steps } = setting;
  const settings = { preset: 'balanced' as const, split: false, rounds, seed, steps };
  const attacks = members.map((attack) => MEMBERS[attack]!);
  try {
    const rows = await bookRows(setting.length);
    for await (const { round, adapter, shares, deltas } of trainRounds(attacks, settings, {
      trainer: nodes,
      rows,
    })) {
      for (const [i, delta] of deltas.entries()) {
        const who = i < HONEST ? 'honest' : members[i - HONEST]!;
        const repeated = await repeat(adapter, shares[i]!, { round, steps, trainer: coordinator });
        for (const [p, preset] of PRESETS.entries()) {
          const feedback = feedbacks[p]![i]!;
          feedback.add(delta);
          const found = auditFigures(decodeUpdate(feedback.compress(preset), nodes.layout, preset), repeated);
          // First updates are counted separately, because they contain no error feedback of earlier rounds. Repeated
          // training gives no error feedback, so its result is more similar to a first update than to a later one.
          const key = `${preset}, ${who}${round === 1 ? ', first update' : ''}`;
          const known = seen.get(key) ?? { closeness: [], balance: [], passed: 0 };
          seen.set(key, known);
          known.closeness.push(found.closeness);
          known.balance.push(found.balance);
          if (passes(found, { preset, isFirst: round === 1 })) known.passed++;
          const { closeness, balance } = found;
          log(`round ${round} ${key}: closeness ${closeness.toFixed(2)} balance ${balance.toFixed(2)}`);
        }
      }
    }
  } finally {
    await dispose();
  }
  return seen;
}

function rowOf(label: string, key: string, { closeness, balance, passed }: Seen): BenchRow {
  const range = (values: readonly number[]): string =>
    `${Math.min(...values).toFixed(2)} to ${Math.max(...values).toFixed(2)}`;
  const isHonest = key.includes('honest');
  const preset = PRESETS.find((one) => key.startsWith(one))!;
  return {
    name: `${name} ${label}: ${key}`,
    value: isHonest ? Math.min(...closeness) : Math.max(...closeness),
    unit: '',
    target: isHonest ? AUDIT_LINES[preset].least : null,
    met: isHonest ? passed === closeness.length : null,
    reference: `${passed} of ${closeness.length} pass; closeness ${range(closeness)}, balance ${range(balance)}`,
  };
}

/** Repeats the steps of an interval. */
async function repeat(
  before: readonly Float32Array[],
  rows: readonly Row[],
  { round, steps, trainer }: { round: number; steps: number; trainer: Trainer },
): Promise<RepeatedSteps> {
  const earlier = steps * (round - 1);
  const half = Math.ceil(steps / 2);
  const batch = rows.length / steps;
  trainer.setParameters(before);
  trainer.setOptimizerState(freshOptimizer(trainer.layout));
  const train = (first: number, last: number) => {
    const position = { start: earlier + first, perStep: 1, before: earlier };
    return trainer.train({ rows: rows.slice(first * batch, last * batch), steps: last - first, position });
  };
  await train(0, half);
  const middle = trainer.parameters();
  await train(half, steps);
  return { before, middle, after: trainer.parameters() };
}
