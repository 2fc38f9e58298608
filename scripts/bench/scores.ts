import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { initialMatrices } from '../../lora/adapter/initial.ts';
import type { Row } from '../../lora/data/row.ts';
import { SeededRandom } from '../../lora/data/seeded-random.ts';
import type { AdamWState } from '../../lora/train/optimizer/adamw.ts';
import type { Trainer } from '../../lora/train/trainer.ts';
import {
  decodeUpdate,
  ErrorFeedback,
  medianNormClip,
  outerStep,
  type Preset,
  type SparseUpdate,
  updateNorms,
} from '../../lora/update/index.ts';
import { type LossGradient, scoreUpdate, type UpdateScore } from '../../lora/update/score.ts';
import type { BenchOptions, BenchRow } from '../bench.ts';
import { ATTACKS, type Delta } from './attackers.ts';
import { prepare } from './learning.ts';

export const name = 'scores';
export const about =
  'how far the scores of honest nodes lie from those of attackers, in each round; ten minutes';

export const HONEST = 6;
export const STEPS = 15;
export const BATCH = 4;
/** Number of batches of random rows in a round. */
const RANDOM_BATCHES = 4;
/** Number of rows in a batch of random rows. */
const RANDOM_ROWS = 8;
/** Each update is scored once with each of these numbers of its author's own rows. */
const OWN_ROWS = [8, 32];
/** Share of the honest median that honest nodes should reach and attackers should not. */
const LINE = 0.4;
/**
 * Attacks that a score cannot find. Clipping turns their updates into honest ones, or into updates that help the model
 * as much as their score says.
 */
const NOT_FOUND = ['times 3', 'half the steps, scaled up'];

export interface Node {
  optimizer: AdamWState | null;
  readonly feedback: ErrorFeedback;
}

/**
 * Scores the updates of honest nodes and of one node for each attack, as the coordinator does. Only the honest updates
 * are merged, so all rounds start from an adapter that learns. Effect and gain are divided by the median of the honest
 * nodes in the round.
 */
export async function run(report: (row: BenchRow) => void, options: BenchOptions): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'swarm-bench-scores-'));
  const deps = await prepare(folder);
  try {
    for (const preset of options.quick ? (['balanced'] as const) : (['balanced', 'dense', 'tiny'] as const)) {
      for (const split of [false, true]) {
        const rounds = options.quick ? 2 : 5;
        await measure({ preset, split, rounds, seed: 1 }, deps, report, options.log);
      }
    }
  } finally {
    await deps.trainer.dispose();
    await rm(folder, { recursive: true, force: true });
  }
}

async function measure(
  { preset, split, rounds, seed }: { preset: Preset; split: boolean; rounds: number; seed: number },
  { trainer, rows }: { trainer: Trainer; rows: readonly Row[] },
  report: (row: BenchRow) => void,
  log: (line: string) => void,
): Promise<void> {
  const { layout } = trainer;
  const random = new SeededRandom(seed);
  const attacks = Object.entries(ATTACKS);
  const count = HONEST + attacks.length;
  const node = (): Node => ({ optimizer: null, feedback: new ErrorFeedback({ layout }) });
  const nodes = Array.from({ length: count }, node);
  let adapter = initialMatrices(layout, seed);
  /** Lowest and highest share of the honest median, over all rounds, by node and figure. */
  const seen = new Map<string, { least: number; most: number }>();
  const note = (who: string, share: number): void => {
    const { least, most } = seen.get(who) ?? { least: Infinity, most: -Infinity };
    seen.set(who, { least: Math.min(least, share), most: Math.max(most, share) });
  };
  for (let round = 1; round <= rounds; round++) {
    const { shares, rest } = assign(rows, count, split, random);
    const gradient = (some: readonly Row[]) => gradientOn(trainer, adapter, some);
    const train = async (who: Node, some: readonly Row[], steps: number): Promise<Delta> => {
      trainer.setParameters(adapter);
      trainer.setOptimizerState(who.optimizer ?? freshState(adapter));
      await trainer.train({ rows: some, steps });
      who.optimizer = trainer.optimizerState();
      const after = trainer.parameters();
      return adapter.map((values, t) => values.map((value, i) => value - after[t]![i]!));
    };
    const deltas: Delta[] = [];
    for (let i = 0; i < HONEST; i++) deltas.push(await train(nodes[i]!, shares[i]!, STEPS));
    const honest = [...deltas];
    for (const [i, [, attack]] of attacks.entries()) {
      const who = nodes[HONEST + i]!;
      const own = shares[HONEST + i]!;
      const input = { rows: own, steps: STEPS, honest, random };
      deltas.push(await attack({ ...input, train: (some, steps = STEPS) => train(who, some, steps) }));
    }
    const updates: SparseUpdate[] = nodes.map(({ feedback }, i) => {
      feedback.add(deltas[i]!);
      return decodeUpdate(feedback.compress(preset), layout, preset);
    });
    const scales = medianNormClip(updates.map(updateNorms));
    const randomGradients: LossGradient[] = [];
    for (let i = 0; i < RANDOM_BATCHES; i++) {
      randomGradients.push(await gradient(pick(rest, RANDOM_ROWS, random)));
    }
    for (const ownRows of OWN_ROWS) {
      const scores: UpdateScore[] = [];
      for (const [i, update] of updates.entries()) {
        const own = await gradient(pick(shares[i]!, ownRows, random));
        scores.push(scoreUpdate(update, { random: randomGradients, own, scale: scales[i]! }));
      }
      const median = (figure: 'effect' | 'gain'): number =>
        scores
          .slice(0, HONEST)
          .map((score) => score[figure])
          .sort((a, b) => a - b)[HONEST >> 1]!;
      const [effect, gain] = [median('effect'), median('gain')];
      for (const [i, score] of scores.entries()) {
        const who = i < HONEST ? 'honest' : attacks[i - HONEST]![0];
        const share = Math.min(score.effect / effect, score.gain / gain);
        note(`${who}, ${ownRows} own rows`, share);
        note(`${who}, effect`, score.effect / effect);
        log(
          `round ${round} ${who} (${ownRows}): effect ${(score.effect / effect).toFixed(2)} gain ${(score.gain / gain).toFixed(2)}`,
        );
      }
    }
    adapter = outerStep(adapter, meanOf(updates.slice(0, HONEST), layout.length, adapter), 1);
  }
  const where = `${preset}, ${split ? "each node's own part of the book" : 'evenly drawn'}, ${rounds} rounds`;
  for (const [who, { least, most }] of seen) {
    const isHonest = who.startsWith('honest');
    const isJudged = who.endsWith('own rows') && !NOT_FOUND.some((attack) => who.startsWith(attack));
    report({
      name: `${name} ${who}`,
      value: isHonest ? least : most,
      unit: 'of the honest median',
      target: isJudged ? LINE : null,
      met: isJudged ? (isHonest ? least >= LINE : most < LINE) : null,
      reference: `${where}; ${least.toFixed(2)} to ${most.toFixed(2)}`,
    });
  }
}

/** Gives every node disjoint rows, and returns those that no node got. With `split`, each node has its part of the book. */
export function assign(rows: readonly Row[], nodes: number, split: boolean, random: SeededRandom) {
  const count = STEPS * BATCH;
  const part = Math.floor(rows.length / nodes);
  if (part < count + 2) throw new Error(`${rows.length} rows are too few for ${nodes} nodes`);
  const order = split
    ? Array.from({ length: nodes }, (_, i) => shuffled(rows.slice(i * part, (i + 1) * part), random))
    : [shuffled(rows, random)];
  const shares = Array.from({ length: nodes }, (_, i) =>
    split ? order[i]!.slice(0, count) : order[0]!.slice(i * count, (i + 1) * count),
  );
  const rest = split ? order.flatMap((some) => some.slice(count)) : order[0]!.slice(nodes * count);
  return { shares, rest };
}

function shuffled<T>(values: readonly T[], random: SeededRandom): T[] {
  return pick(values, values.length, random);
}

export function pick<T>(values: readonly T[], count: number, random: SeededRandom): T[] {
  const left = [...values];
  return Array.from(
    { length: Math.min(count, left.length) },
    () => left.splice(Math.floor(random.uniform() * left.length), 1)[0]!,
  );
}

export async function gradientOn(
  trainer: Trainer,
  adapter: readonly Float32Array[],
  rows: readonly Row[],
): Promise<LossGradient> {
  trainer.setParameters(adapter);
  return trainer.lossGradient(rows);
}

export function freshState(adapter: readonly Float32Array[]): AdamWState {
  const zeros = () => adapter.map(({ length }) => new Float32Array(length));
  return { step: 0, m: zeros(), v: zeros() };
}

export function meanOf(
  updates: readonly SparseUpdate[],
  tensors: number,
  adapter: readonly Float32Array[],
): Delta {
  const mean = Array.from({ length: tensors }, (_, t) => new Float32Array(adapter[t]!.length));
  for (const { tensors: sent } of updates) {
    for (const [t, { indices, values }] of sent.entries()) {
      for (let i = 0; i < values.length; i++)
        mean[t]![indices ? indices[i]! : i]! += values[i]! / updates.length;
    }
  }
  return mean;
}
