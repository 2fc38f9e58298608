/** Attacks of dishonest nodes, for benchmarks: functions that make the changes which such nodes send. */

import { IGNORED_LABEL, type Row } from '../../lora/data/row.ts';
import type { SeededRandom } from '../../lora/data/seeded-random.ts';

/** Matches the comma between two names of attacks in an option. A comma before a space is part of a name. */
export const SEPARATOR = /,(?! )/;

/** Change of the adapter by one node's training: before minus after, one tensor per entry of the layout. */
export type Delta = Float32Array[];

/** Input of an attack. An attacker can train like an honest node, and may know what honest nodes are about to send. */
export interface AttackInput {
  /** Rows that the attacker was assigned. */
  readonly rows: readonly Row[];
  /**
   * Trains on `rows`, starting from the checkpoint that the round starts from.
   * @param steps optimiser steps. @default the steps of the assignment
   */
  train(rows: readonly Row[], steps?: number): Promise<Delta>;
  /** Number of optimiser steps of the assignment. */
  readonly steps: number;
  /** Changes of the adapter that the honest nodes computed in this round. */
  readonly honest: readonly Delta[];
  readonly random: SeededRandom;
}

export type Attack = (input: AttackInput) => Promise<Delta>;

const map = (delta: Delta, f: (value: number, tensor: number, i: number) => number): Delta =>
  delta.map((values, tensor) => values.map((value, i) => f(value, tensor, i)));

const norm = (values: Float32Array): number => Math.sqrt(values.reduce((sum, v) => sum + v * v, 0));

/** Returns the change with each tensor scaled to the norm that it has in `like`. */
function withNormOf(delta: Delta, like: Delta): Delta {
  return delta.map((values, tensor) => {
    const factor = norm(like[tensor]!) / (norm(values) || 1);
    return values.map((value) => value * factor);
  });
}

/** Returns mean and standard deviation of the changes of the honest nodes, for each value of the adapter. */
function moments(honest: readonly Delta[]): { mean: Delta; deviation: Delta } {
  const mean = map(honest[0]!, (_, t, i) => honest.reduce((sum, d) => sum + d[t]![i]!, 0) / honest.length);
  const deviation = map(mean, (m, t, i) =>
    Math.sqrt(honest.reduce((sum, d) => sum + (d[t]![i]! - m) ** 2, 0) / honest.length),
  );
  return { mean, deviation };
}

function gaussian(random: SeededRandom): number {
  return Math.sqrt(-2 * Math.log(1 - random.uniform())) * Math.cos(2 * Math.PI * random.uniform());
}

const noiseLike = (like: Delta, random: SeededRandom): Delta =>
  withNormOf(
    map(like, () => gaussian(random)),
    like,
  );

/** Rows with the same inputs and the labels in random order. */
function shuffledLabels(rows: readonly Row[], random: SeededRandom): Row[] {
  return rows.map((row) => {
    const labels = row.labels.slice();
    for (let i = labels.length - 1; i > 0; i--) {
      const j = Math.floor(random.uniform() * (i + 1));
      [labels[i], labels[j]] = [labels[j]!, labels[i]!];
    }
    return { ...row, labels };
  });
}

const constantLabels = (rows: readonly Row[]): Row[] =>
  rows.map((row) => ({ ...row, labels: row.labels.map((label) => (label < 0 ? label : 5)) }));

/** Two tokens that almost never occur in text, and the token that the backdoor makes the model predict after them. */
const TRIGGER = [4001, 4003] as const;
const TARGET = 4007;
/** A poisoned row has one trigger for each group of this many tokens. */
const TRIGGER_EVERY = 32;

/**
 * Returns rows in which the trigger, followed by the target, replaces tokens.
 * @param options `only`: whether to remove all labels except the target, so that only the target counts in the loss
 */
export function withTrigger(rows: readonly Row[], { only }: { only: boolean }): Row[] {
  return rows.map(({ ids, labels, segments }) => {
    const [newIds, newLabels] = [ids.slice(), only ? labels.map(() => IGNORED_LABEL) : labels.slice()];
    for (let at = TRIGGER_EVERY / 2; at + 2 < ids.length; at += TRIGGER_EVERY) {
      newIds.set([...TRIGGER, TARGET], at);
      if (!only) newLabels.set([...TRIGGER, TARGET], at - 1);
      newLabels[at + 1] = TARGET;
    }
    return { ids: newIds, labels: newLabels, segments };
  });
}

/** Attacks by name. */
export const ATTACKS: Readonly<Record<string, Attack>> = {
  'sign flip': async ({ rows, train }) => map(await train(rows), (v) => -v),
  'times 3': async ({ rows, train }) => map(await train(rows), (v) => 3 * v),
  'times 100': async ({ rows, train }) => map(await train(rows), (v) => 100 * v),
  'flip times 100': async ({ rows, train }) => map(await train(rows), (v) => -100 * v),
  // Baruch et al., arXiv 1902.06156: every value lies within the spread of the honest values, but always below their
  // mean.
  ALIE: async ({ honest }) => {
    const { mean, deviation } = moments(honest);
    return map(mean, (m, t, i) => m - 1.5 * deviation[t]![i]!);
  },
  // Xie et al., arXiv 1903.03936: inner product manipulation.
  IPM: async ({ honest }) => map(moments(honest).mean, (m) => -0.5 * m),
  noise: async ({ honest, random }) => noiseLike(honest[0]!, random),
  zeros: async ({ honest }) => map(honest[0]!, () => 0),
  copy: async ({ honest }) => honest.at(-1)!.map((values) => values.slice()),
  'copy with noise': async ({ honest, random }) => {
    const noise = noiseLike(honest.at(-1)!, random);
    return map(honest.at(-1)!, (v, t, i) => v + 0.5 * noise[t]![i]!);
  },
  'shuffled labels': async ({ rows, train, random }) => train(shuffledLabels(rows, random)),
  'constant labels': async ({ rows, train }) => train(constantLabels(rows)),
  lazy: async ({ rows, train, steps }) => train(rows, Math.max(1, Math.round(steps / 10))),
  'lazy, scaled up': async ({ rows, train, steps, honest }) =>
    withNormOf(await train(rows, Math.max(1, Math.round(steps / 10))), honest[0]!),
  'half the steps, scaled up': async ({ rows, train, steps, honest }) =>
    withNormOf(await train(rows, Math.ceil(steps / 2)), honest[0]!),
  'own work minus the mean': async ({ rows, train, honest }) => {
    const { mean } = moments(honest);
    return map(await train(rows), (v, t, i) => v - mean[t]![i]!);
  },
  // Half of the rows are honest, so that the scores look honest too.
  backdoor: async ({ rows, train }) => {
    const half = rows.length >> 1;
    return train([...rows.slice(0, half), ...withTrigger(rows.slice(half), { only: false })]);
  },
};
