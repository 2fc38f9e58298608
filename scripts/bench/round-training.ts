/** Rounds in which honest nodes and attackers train side by side, for benchmarks that score their updates. */
import { meanLoss } from '../../coordinator/merge/comparison.ts';
import { initialMatrices } from '../../lora/adapter/initial.ts';
import type { Row } from '../../lora/data/row.ts';
import { SeededRandom } from '../../lora/data/seeded-random.ts';
import type { AdamWState } from '../../lora/train/optimizer/adamw.ts';
import { freshOptimizer } from '../../lora/train/optimizer/optimizer-state.ts';
import type { Trainer } from '../../lora/train/trainer.ts';
import {
  decodeUpdate,
  ErrorFeedback,
  outerStep,
  type Preset,
  type SparseUpdate,
} from '../../lora/update/index.ts';
import type { LossGradient } from '../../lora/update/score.ts';
import type { Attack, Delta } from './attackers.ts';

export const HONEST = 6;
/** Number of optimiser steps that each node is assigned in a round. */
export const STEPS = 15;
/** Number of rows of one optimiser step. */
export const BATCH = 4;

export interface RoundSettings {
  readonly preset: Preset;
  /**
   * Whether each node gets only rows of its own part of the book. Otherwise, the rows of all nodes are drawn evenly.
   */
  readonly split: boolean;
  readonly rounds: number;
  readonly seed: number;
  /** Number of steps of each node in a round. @default STEPS */
  readonly steps?: number;
}

export interface TrainedRound {
  readonly round: number;
  /** The adapter that the round starts from. */
  readonly adapter: Delta;
  /** Rows that each node was assigned: first the honest nodes, then one node for each attack. */
  readonly shares: readonly Row[][];
  /** Rows that were assigned to no node. */
  readonly rest: readonly Row[];
  /** The nodes' changes before compression. */
  readonly deltas: readonly Delta[];
  /** The nodes' updates after error feedback, compression and decoding, as a coordinator reads them. */
  readonly updates: readonly SparseUpdate[];
  readonly random: SeededRandom;
}

/**
 * Trains HONEST nodes and one node for each attack. Only the honest updates are merged, so the adapter improves from
 * round to round.
 */
export async function* trainRounds(
  attacks: readonly Attack[],
  { preset, split, rounds, seed, steps = STEPS }: RoundSettings,
  { trainer, rows }: { trainer: Trainer; rows: readonly Row[] },
): AsyncGenerator<TrainedRound> {
  const { layout } = trainer;
  const random = new SeededRandom(seed);
  const nodes = Array.from({ length: HONEST + attacks.length }, () => ({
    optimizer: freshOptimizer(layout),
    feedback: new ErrorFeedback({ layout }),
  }));
  let adapter = initialMatrices(layout, seed);
  for (let round = 1; round <= rounds; round++) {
    const { shares, rest } = assign(rows, { nodes: nodes.length, count: steps * BATCH, split, random });
    const train = async (node: { optimizer: AdamWState }, some: readonly Row[], made: number) => {
      trainer.setParameters(adapter);
      trainer.setOptimizerState(node.optimizer);
      // The random numbers of dropout and noise follow from the position, so that an audit can draw the same numbers.
      await trainer.train({ rows: some, steps: made, position: { start: (round - 1) * steps, perStep: 1 } });
      node.optimizer = trainer.optimizerState();
      const after = trainer.parameters();
      return adapter.map((values, t) => values.map((value, i) => value - after[t]![i]!));
    };
    const honest: Delta[] = [];
    for (let i = 0; i < HONEST; i++) honest.push(await train(nodes[i]!, shares[i]!, steps));
    const deltas = [...honest];
    for (const [i, attack] of attacks.entries()) {
      const node = nodes[HONEST + i]!;
      const input = { rows: shares[HONEST + i]!, steps, honest, random };
      deltas.push(await attack({ ...input, train: (some, made = steps) => train(node, some, made) }));
    }
    const updates = nodes.map(({ feedback }, i) => {
      feedback.add(deltas[i]!);
      return decodeUpdate(feedback.compress(preset), layout, preset);
    });
    yield { round, adapter, shares, rest, deltas, updates, random };
    adapter = outerStep(adapter, meanOf(updates.slice(0, HONEST), adapter), 1);
  }
}

/** Returns the gradient of the mean loss over rows at an adapter. */
export async function gradientOn(
  trainer: Trainer,
  adapter: readonly Float32Array[],
  rows: readonly Row[],
): Promise<LossGradient> {
  trainer.setParameters(adapter);
  return trainer.lossGradient(rows);
}

/** Returns the mean loss over rows at an adapter, in nats per token. */
export async function lossOn(
  trainer: Trainer,
  adapter: readonly Float32Array[],
  rows: readonly Row[],
): Promise<number> {
  trainer.setParameters(adapter);
  return meanLoss(await trainer.evaluate(rows)) ?? 0;
}

/** Returns the median of a figure over the honest nodes, whose scores come first. */
export function honestMedian<F extends string>(scores: readonly Record<F, number>[], figure: F): number {
  const honest = scores.slice(0, HONEST).map((score) => score[figure]);
  return honest.sort((a, b) => a - b)[HONEST >> 1]!;
}

/** Draws rows without repetition. */
export function pick<T>(values: readonly T[], count: number, random: SeededRandom): T[] {
  const left = [...values];
  return Array.from(
    { length: Math.min(count, left.length) },
    () => left.splice(Math.floor(random.uniform() * left.length), 1)[0]!,
  );
}

/**
 * Returns the rows of each node (`shares`), and the rows that no node got (`rest`). No two nodes get the same row. With
 * `split`, each node gets rows from its own part of the text only.
 */
function assign(
  rows: readonly Row[],
  { nodes, count, split, random }: { nodes: number; count: number; split: boolean; random: SeededRandom },
) {
  const part = Math.floor(rows.length / nodes);
  if (part < count + 2) throw new Error(`${rows.length} rows are too few for ${nodes} nodes`);
  const shuffled = (some: readonly Row[]): Row[] => pick(some, some.length, random);
  const order = split
    ? Array.from({ length: nodes }, (_, i) => shuffled(rows.slice(i * part, (i + 1) * part)))
    : [shuffled(rows)];
  const shares = Array.from({ length: nodes }, (_, i) =>
    split ? order[i]!.slice(0, count) : order[0]!.slice(i * count, (i + 1) * count),
  );
  const rest = split ? order.flatMap((some) => some.slice(count)) : order[0]!.slice(nodes * count);
  return { shares, rest };
}

function meanOf(updates: readonly SparseUpdate[], adapter: readonly Float32Array[]): Delta {
  const mean = adapter.map(({ length }) => new Float32Array(length));
  for (const { tensors } of updates) {
    for (const [t, { indices, values }] of tensors.entries()) {
      for (let i = 0; i < values.length; i++)
        mean[t]![indices ? indices[i]! : i]! += values[i]! / updates.length;
    }
  }
  return mean;
}
