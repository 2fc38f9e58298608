/** The held-out check that a merge must pass to become a checkpoint (DESIGN.md section 7). */

import type { RowLoss } from '../../lora/train/step.ts';

export type { RowLoss } from '../../lora/train/step.ts';

/** Mean loss in nats per predicted token; null when nothing is predicted. */
export function meanLoss(rows: readonly RowLoss[]): number | null {
  const tokens = rows.reduce((sum, row) => sum + row.tokens, 0);
  return tokens > 0 ? rows.reduce((sum, row) => sum + row.lossSum, 0) / tokens : null;
}

export interface Comparison {
  /** Mean over rows of how much worse (positive) the second is, in nats per token. */
  readonly worsening: number;
  /** Standard error of that mean; 0 for a single row. */
  readonly standardError: number;
  /** Greatest worsening that is let pass. */
  readonly allowed: number;
  readonly passes: boolean;
}

/**
 * Compares two adapters row by row: paired, so that what is hard about a row cancels out. The second passes when its mean
 * worsening is at most the larger of two standard errors and `tolerance` of the first's loss. A loss that is not finite
 * never passes.
 */
export function compare(
  before: readonly RowLoss[],
  after: readonly RowLoss[],
  tolerance: number,
): Comparison {
  const differences: number[] = [];
  let loss = 0;
  for (const [i, row] of before.entries()) {
    const other = after[i];
    if (row.tokens === 0 || other === undefined) continue;
    loss += row.lossSum / row.tokens;
    differences.push(other.lossSum / other.tokens - row.lossSum / row.tokens);
  }
  const count = differences.length;
  if (count === 0) return { worsening: 0, standardError: 0, allowed: 0, passes: true };
  const worsening = differences.reduce((sum, d) => sum + d, 0) / count;
  const squares = differences.reduce((sum, d) => sum + (d - worsening) ** 2, 0);
  const standardError = count > 1 ? Math.sqrt(squares / (count - 1) / count) : 0;
  const allowed = Math.max(2 * standardError, (tolerance * loss) / count);
  return { worsening, standardError, allowed, passes: Number.isFinite(worsening) && worsening <= allowed };
}

/** Of what cannot even be evaluated. */
const IMPOSSIBLE: Comparison = { worsening: Infinity, standardError: 0, allowed: 0, passes: false };

/** Single updates that are tried without, at most: each costs a merge and an evaluation. */
export const LEAVE_ONE_OUT = 8;

export interface GateInput<Source, Merged> {
  /** What is to be merged, in order. */
  readonly sources: readonly Source[];
  /** The job's outer rate. */
  readonly rate: number;
  readonly tolerance: number;
  /** Losses of the parent checkpoint; empty when there is no held-out data: then everything passes. */
  readonly before: readonly RowLoss[];
  /** null: together they would move weights further than any adapter can go. */
  merge(sources: readonly Source[], rate: number): Promise<Merged | null>;
  evaluate(merged: Merged): Promise<readonly RowLoss[]>;
  /**
   * Sources that went into a merge, by how suspicious they are, most first: whom to try leaving out when there are too
   * many to try all.
   */
  suspects(merged: Merged, sources: readonly Source[]): readonly Source[];
}

export type GateResult<Source, Merged> =
  | {
      readonly accepted: true;
      readonly merged: Merged;
      readonly losses: readonly RowLoss[];
      /** Rate that passed. */
      readonly rate: number;
      readonly leftOut: Source | null;
    }
  | { readonly accepted: false; readonly reason: string };

/**
 * Tries, in this order: all updates at the job's rate; all at half of it; all but one at the job's rate, leaving out the
 * one whose absence helps most. The first that passes is taken.
 */
export async function gate<Source, Merged>(
  input: GateInput<Source, Merged>,
): Promise<GateResult<Source, Merged>> {
  const { sources, rate, before, tolerance } = input;
  const attempt = async (some: readonly Source[], at: number): Promise<Attempt<Merged>> => {
    const merged = await input.merge(some, at);
    if (merged === null) return { merged, losses: [], comparison: IMPOSSIBLE };
    const losses = before.length > 0 ? await input.evaluate(merged) : [];
    return { merged, losses, comparison: compare(before, losses, tolerance) };
  };
  const accepted = (
    { merged, losses, comparison }: Attempt<Merged>,
    at: number,
    leftOut: Source | null,
  ): GateResult<Source, Merged> | null =>
    merged !== null && comparison.passes ? { accepted: true, merged, losses, rate: at, leftOut } : null;

  const whole = await attempt(sources, rate);
  const all = accepted(whole, rate, null) ?? accepted(await attempt(sources, rate / 2), rate / 2, null);
  if (all) return all;

  let best: { result: Attempt<Merged>; without: Source } | null = null;
  const suspects = whole.merged === null ? sources : input.suspects(whole.merged, sources);
  if (suspects.length > 1) {
    for (const without of suspects.slice(0, LEAVE_ONE_OUT)) {
      const rest = sources.filter((source) => source !== without && suspects.includes(source));
      const result = await attempt(rest, rate);
      if (!best || better(result.comparison, best.result.comparison)) best = { result, without };
    }
  }
  const rest = best && accepted(best.result, rate, best.without);
  return rest ?? { accepted: false, reason: `merged, ${complaint(whole)}` };
}

/** One merge, and what it does to the held-out loss. */
interface Attempt<Merged> {
  readonly merged: Merged | null;
  readonly losses: readonly RowLoss[];
  readonly comparison: Comparison;
}

function complaint({ merged, comparison: { worsening, allowed } }: Attempt<unknown>): string {
  const what =
    merged === null
      ? 'weights would move further than an adapter can go'
      : `the held-out loss is worse by ${worsening.toFixed(5)} nats per token where ${allowed.toFixed(5)} may be`;
  return `${what}, also at half the rate and without any single update`;
}

function better(a: Comparison, b: Comparison): boolean {
  return Number.isFinite(a.worsening) && !(a.worsening >= b.worsening);
}
