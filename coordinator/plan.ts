import { ROUND_PEERS } from '../protocol/limits.ts';
import type { Manifest } from '../protocol/manifest.ts';
import type { Head } from '../protocol/messages.ts';

export type Preset = Head['preset'];
export type Assignment = Head['assignments'][number];

/** From this many nodes "auto" compresses: below it dense is small enough and learns best (DESIGN.md section 5). */
export const AUTO_SPARSE_PEERS = 4;
/** The slowest node makes at least this share of the fastest one's steps; slower still, it is late. */
export const LEAST_STEPS_SHARE = 1 / 3;

export interface PlanSettings {
  /** Steps of the fastest node. */
  readonly localSteps: number;
  readonly preset: Manifest['rounds']['preset'];
  /** Rows of one optimiser step, and rows of the whole data. */
  readonly batchSize: number;
  readonly rows: number;
}

export interface RoundPlan {
  readonly preset: Preset;
  /** Sorted by peer id; the intervals are disjoint and lie within [0, rows). */
  readonly assignments: Assignment[];
}

/**
 * Shares a round's work out. Steps are proportional to measured speed within a third of `localSteps` to all of them; a
 * node that has not been measured gets those of the median node. Intervals hold the rows of a node's steps, or, where
 * the data is too small for that, a proportional part of the data, which the node then goes through again.
 *
 * @param speeds tokens per second by peer, 0 while unmeasured
 * @param round turns the choice of peers where there are more than a round can take
 */
export function planRound(
  speeds: Readonly<Record<string, number>>,
  round: number,
  settings: PlanSettings,
): RoundPlan {
  const peers = choose(Object.keys(speeds).sort(), round, Math.min(ROUND_PEERS, settings.rows));
  const steps = stepsOf(
    peers.map((peer) => speeds[peer]!),
    settings.localSteps,
  );
  const wanted = steps.map((count) => count * settings.batchSize);
  const total = wanted.reduce((sum, rows) => sum + rows, 0);
  const sizes = total <= settings.rows ? wanted : shrink(wanted, settings.rows);
  let end = 0;
  const assignments = peers.map((peer, i) => {
    const start = end;
    end += sizes[i]!;
    return { peer, start, end, steps: steps[i]! };
  });
  const { preset } = settings;
  const auto = peers.length < AUTO_SPARSE_PEERS ? 'dense' : 'balanced';
  return { preset: preset === 'auto' ? auto : preset, assignments };
}

/** All peers, or as many as a round takes, beginning elsewhere each round so that everybody gets a turn. */
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

/** Sizes proportional to `wanted`, at least 1 each, with sum at most `rows`; there are no more sizes than rows. */
function shrink(wanted: readonly number[], rows: number): number[] {
  const total = wanted.reduce((sum, size) => sum + size, 0);
  const spare = rows - wanted.length;
  return wanted.map((size) => 1 + Math.floor((spare * size) / total));
}
