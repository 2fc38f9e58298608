import { ROUND_PEERS } from '../../protocol/limits.ts';
import type { Manifest } from '../../protocol/manifest.ts';
import type { Head } from '../../protocol/messages.ts';

export type Preset = Head['preset'];
export type Assignment = Head['assignments'][number];

/** With "auto", rounds of at least this many nodes use "balanced", and smaller rounds use "dense" (decision 050). */
export const AUTO_SPARSE_PEERS = 4;
/** Smallest share of the fastest node's steps that a node gets. The updates of nodes that are even slower are late. */
export const LEAST_STEPS_SHARE = 1 / 3;

export interface PlanSettings {
  /** Number of steps of the fastest node. */
  readonly localSteps: number;
  readonly preset: Manifest['rounds']['preset'];
  /** Number of rows of one optimiser step. */
  readonly batchSize: number;
}

export interface RoundPlan {
  readonly preset: Preset;
  /** Sorted by peer id. The first interval starts at 0, and each other one starts where the previous one ends. */
  readonly assignments: Assignment[];
}

/**
 * Assigns a round's work. A node's steps are proportional to its measured speed, but at least a third of `localSteps`,
 * and at most `localSteps`. A node that has not been measured gets the steps of the median node. An interval has
 * exactly the rows of its node's steps. Positions beyond the end of the data belong to a second permutation of the
 * rows, and so on (lora/data/permutation.ts, `epoch`).
 *
 * @param speeds tokens per second by peer, 0 while unmeasured
 * @param round number of the round, which rotates the choice if there are more peers than a round can take
 */
export function planRound(
  speeds: Readonly<Record<string, number>>,
  round: number,
  settings: PlanSettings,
): RoundPlan {
  const peers = choose(Object.keys(speeds).sort(), round, ROUND_PEERS);
  const steps = stepsOf(
    peers.map((peer) => speeds[peer]!),
    settings.localSteps,
  );
  let end = 0;
  const assignments = peers.map((peer, i) => {
    const start = end;
    end += steps[i]! * settings.batchSize;
    return { peer, start, end, steps: steps[i]! };
  });
  const { preset } = settings;
  const auto = peers.length < AUTO_SPARSE_PEERS ? 'dense' : 'balanced';
  return { preset: preset === 'auto' ? auto : preset, assignments };
}

/** Chooses all peers, or as many as a round takes. Each round starts with a different peer, so that all take turns. */
function choose(sorted: readonly string[], round: number, most: number): string[] {
  if (sorted.length <= most) return [...sorted];
  const first = (round * most) % sorted.length;
  return Array.from({ length: most }, (_, i) => sorted[(first + i) % sorted.length]!).sort();
}

function stepsOf(speeds: readonly number[], localSteps: number): number[] {
  const measured = speeds.filter((speed) => speed > 0).sort((a, b) => a - b);
  const fastest = measured.at(-1);
  if (fastest === undefined) return speeds.map(() => localSteps);
  const median = measured[(measured.length - 1) >> 1]!;
  const least = Math.ceil(localSteps * LEAST_STEPS_SHARE);
  return speeds.map((speed) => {
    const share = (speed > 0 ? speed : median) / fastest;
    return Math.min(localSteps, Math.max(least, Math.round(localSteps * share)));
  });
}
