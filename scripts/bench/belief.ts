import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Row } from '../../lora/data/row.ts';
import type { Trainer } from '../../lora/train/trainer.ts';
import { medianNormClip, updateNorms } from '../../lora/update/index.ts';
import { type LossGradient, type UpdateScore, withUpdate } from '../../lora/update/score.ts';
import { scoreUpdate } from '../../test/utils/swarm/score-update.ts';
import { beliefOf, gainErrorOf, isDoubtful, sharesOf } from '../../verify/scores/belief.ts';
import { planScoring } from '../../verify/scores/score-plan.ts';
import type { BenchOptions, BenchRow } from '../bench.ts';
import { ATTACKS, type Attack } from './attackers.ts';
import { prepare } from './learning.ts';
import {
  BATCH,
  gradientOn,
  HONEST,
  honestMedian,
  lossOn,
  type RoundSettings,
  STEPS,
  trainRounds,
} from './round-training.ts';

export const name = 'belief';
export const about =
  'belief of six honest nodes and one attacker after each round (5 minutes per preset and split of the data)';

/** Presets that option --shape can choose. */
const PRESETS = ['balanced', 'dense'] as const;
export const shapes = PRESETS;
const ROUNDS = 6;
const INTERVAL = STEPS * BATCH;
/** A node that trains honestly, but is so slow that it is assigned a third of the steps. */
const SLOW = 'honest, a third of the steps';

const MEMBERS: Readonly<Record<string, Attack>> = {
  [SLOW]: async ({ rows, train, steps }) => train(rows.slice(0, rows.length / 3), steps / 3),
  ...ATTACKS,
};

/**
 * Scores swarms of six honest nodes and one attacker or slow node, on the same rows and by the same rules as the
 * coordinator. All swarms have the same honest nodes. Only honest updates are merged, so the adapter improves from
 * round to round.
 */
export async function run(report: (row: BenchRow) => void, options: BenchOptions): Promise<void> {
  const { quick = false, choices = {}, shapes: chosen = quick ? ['balanced'] : PRESETS } = options;
  const splits = choices.split?.split(',') ?? ['own-book', 'even'];
  const rounds = Number(choices.rounds ?? (quick ? 2 : ROUNDS));
  const folder = await mkdtemp(join(tmpdir(), 'swarm-bench-belief-'));
  const deps = await prepare(folder);
  try {
    for (const preset of PRESETS.filter((one) => chosen.includes(one))) {
      for (const split of splits) {
        const settings = { preset, split: split !== 'even', rounds, seed: 1 };
        await measure(settings, deps, report, options.log);
      }
    }
  } finally {
    await deps.trainer.dispose();
    await rm(folder, { recursive: true, force: true });
  }
}

async function measure(
  settings: RoundSettings,
  { trainer, rows }: { trainer: Trainer; rows: readonly Row[] },
  report: (row: BenchRow) => void,
  log: (line: string) => void,
): Promise<void> {
  const { preset, split, rounds } = settings;
  const others = Object.entries(MEMBERS);
  /** The shares of each member of each swarm in earlier rounds, as `sharesOf` returns them, newest first. */
  const history = others.map(() => Array.from({ length: HONEST + 1 }, (): number[] => []));
  const beliefs = others.map((): number[] => []);
  const honestBeliefs: number[][] = Array.from({ length: rounds }, () => []);
  let falseHarm = 0;
  const trained = trainRounds(
    others.map(([, attack]) => attack),
    settings,
    { trainer, rows },
  );
  for await (const { round, adapter, shares: own, rest, updates, random } of trained) {
    const norms = updates.map(updateNorms);
    const seed = Uint8Array.from({ length: 32 }, () => random.integer(256));
    // All swarms are scored on the same random rows. The rows of the honest nodes are mostly the same too. The gradient
    // on rows that several swarms share is computed only once.
    const known = new Map<string, LossGradient>();
    const gradient = async (some: readonly Row[], key: string): Promise<LossGradient> => {
      const found = known.get(key) ?? (await gradientOn(trainer, adapter, some));
      known.set(key, found);
      return found;
    };
    for (const [o, [who]] of others.entries()) {
      const members = [...Array.from({ length: HONEST }, (_, i) => i), HONEST + o];
      const steps = members.map((i) => (i >= HONEST && who === SLOW ? STEPS / 3 : STEPS));
      const clips = medianNormClip(members.map((i) => norms[i]!));
      const assignedEnd = members.length * INTERVAL;
      const plan = planScoring(
        members.map((i, m) => ({
          key: String(i),
          start: m * INTERVAL,
          end: m * INTERVAL + steps[m]! * BATCH,
          isDoubtful: isDoubtful(history[o]![m]!),
        })),
        {
          assignedEnd,
          rows: assignedEnd + rest.length,
          seed,
        },
      );
      const gradients: LossGradient[] = [];
      for (const positions of plan.random) {
        const some = positions.map((position) => rest[position - assignedEnd]!);
        gradients.push(await gradient(some, `random ${positions}`));
      }
      const randomRows = plan.random.flat().length;
      const scored: (UpdateScore & { exact: number | null; ownRows: number })[] = Array(members.length);
      for (const { candidate: m, positions } of plan.own) {
        const some = positions.map((position) => own[members[m]!]![position - m * INTERVAL]!);
        const score = scoreUpdate(updates[members[m]!]!, {
          random: gradients,
          own: await gradient(some, `${members[m]} ${positions.map((position) => position - m * INTERVAL)}`),
          scale: clips[m]!,
        });
        scored[m] = { ...score, exact: null, ownRows: positions.length };
      }
      const exactRows = plan.exact.positions.map((position) => rest[position - assignedEnd]!);
      const before = exactRows.length > 0 ? await lossOn(trainer, adapter, exactRows) : 0;
      for (const m of plan.exact.candidates) {
        const whole = withUpdate(adapter, updates[members[m]!]!, clips[m]!);
        scored[m] = { ...scored[m]!, exact: before - (await lossOn(trainer, whole, exactRows)) };
      }
      const shares = sharesOf(
        scored.map(({ effect, effectError, gain, exact, ownRows }, m) => ({
          effect: effect / steps[m]!,
          effectError: effectError / steps[m]!,
          gain,
          exact: exact === null ? null : { effect: exact, steps: steps[m]! },
          gainError: gainErrorOf(effectError, { ownRows, randomRows }),
          earlier: history[o]![m]!,
        })),
      );
      for (const m of members.keys()) {
        const { effect, effectError } = scored[m]!;
        const isHarmful = effect + 2 * effectError < 0;
        if (isHarmful && m < HONEST) falseHarm++;
        if (shares === null) continue;
        history[o]![m]!.unshift(isHarmful ? 0 : shares[m]!);
        const belief = isHarmful ? 0 : beliefOf(history[o]![m]!);
        if (m === HONEST) beliefs[o]!.push(belief);
        else honestBeliefs[round - 1]!.push(belief);
      }
      const figures = scored.at(-1)!;
      log(
        `round ${round} ${who}: effect ${(figures.effect / honestMedian(scored, 'effect')).toFixed(2)} gain ${(figures.gain / honestMedian(scored, 'gain')).toFixed(2)} share ${history[o]!.at(-1)![0]?.toFixed(2)} belief ${beliefs[o]!.at(-1)?.toFixed(2)} on ${figures.ownRows} rows`,
      );
    }
  }
  const where = `${preset}, ${split ? "each node's own part of the book" : 'evenly drawn'}`;
  const text = (values: readonly number[]): string => values.map((value) => value.toFixed(2)).join(' ');
  for (const [o, [who]] of others.entries()) {
    const value = beliefs[o]!.at(-1) ?? null;
    report({
      name: `${name} ${who}`,
      value,
      unit: '',
      target: null,
      met: null,
      reference: `${where}; by round ${text(beliefs[o]!)}`,
    });
  }
  report({
    name: `${name} honest`,
    value: Math.min(...honestBeliefs.at(-1)!),
    unit: '',
    target: null,
    met: null,
    reference: `${where}; least by round ${text(honestBeliefs.map((values) => Math.min(...values)))}, mean ${text(
      honestBeliefs.map((values) => values.reduce((sum, v) => sum + v, 0) / values.length),
    )}; ${falseHarm} of ${rounds * others.length * HONEST} taken for harmful`,
  });
}
