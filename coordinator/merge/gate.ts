/** The gate: the check on held-out data that a merge must pass to become a checkpoint. */
import type { RowLoss } from '../../lora/train/step.ts';
import type { GateVerdict } from '../context.ts';

/** Returns the mean loss in nats per predicted token; null if the rows have no predicted token. */
export function meanLoss(rows: readonly RowLoss[]): number | null {
  const tokens = rows.reduce((sum, row) => sum + row.tokens, 0);
  return tokens > 0 ? rows.reduce((sum, row) => sum + row.lossSum, 0) / tokens : null;
}

export interface Comparison {
  /** Increase in loss, averaged over the rows, in nats per token; negative when the second adapter is better. */
  readonly worsening: number;
  /** Standard error of `worsening`; 0 for a single row. */
  readonly standardError: number;
  /** Largest worsening that passes. */
  readonly allowed: number;
  readonly passes: boolean;
}

/**
 * Compares the losses of two adapters row by row, so that the difficulty of a row cancels out. The second adapter
 * passes if its mean worsening is at most two standard errors, or at most `tolerance` times the first adapter's loss. A
 * loss that is not finite never passes.
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

/** Comparison for a merge that produced no adapter, because an adapter cannot hold the values. */
const IMPOSSIBLE: Comparison = { worsening: Infinity, standardError: 0, allowed: 0, passes: false };

/** Largest number of attempts that each leave out one update. An attempt costs a merge and an evaluation. */
export const LEAVE_ONE_OUT = 8;

export interface GateInput<Source, Merged> {
  /** Updates to merge, in order. */
  readonly sources: readonly Source[];
  /** The job's outer rate. */
  readonly rate: number;
  readonly tolerance: number;
  /** Losses of the parent checkpoint. Without held-out data the list is empty, and every merge passes. */
  readonly before: readonly RowLoss[];
  /** Returns the merge, or null if its step would exceed the values that an adapter can hold. */
  merge(sources: readonly Source[], rate: number): Promise<Merged | null>;
  evaluate(merged: Merged): Promise<readonly RowLoss[]>;
  /** Returns the merged sources in the order in which they are left out: the most suspicious first. */
  suspects(merged: Merged, sources: readonly Source[]): readonly Source[];
}

export type GateResult<Source, Merged> =
  | {
      readonly accepted: true;
      readonly verdict: Exclude<GateVerdict, 'refused'>;
      readonly merged: Merged;
      readonly losses: readonly RowLoss[];
      /** The outer rate that passed. */
      readonly rate: number;
      readonly leftOut: Source | null;
    }
  | { readonly accepted: false; readonly reason: string };

/**
 * Tries three variants of the merge and takes the first that passes:
 * - all updates at the job's rate;
 * - all updates at half that rate;
 * - all but one at the job's rate. The one left out is the update whose absence lowers the loss most.
 */
export async function passGate<Source, Merged>(
  input: GateInput<Source, Merged>,
): Promise<GateResult<Source, Merged>> {
  const { sources, rate, before, tolerance } = input;
  const attempt = async (some: readonly Source[], at: number): Promise<Attempt<Merged>> => {
    const merged = await input.merge(some, at);
    if (merged === null) return { merged, losses: [], comparison: IMPOSSIBLE };
    const losses = before.length > 0 ? await input.evaluate(merged) : [];
    return { merged, losses, comparison: compare(before, losses, tolerance) };
  };

  const whole = await attempt(sources, rate);
  if (passes(whole)) return { ...taken(whole), verdict: 'passed', rate, leftOut: null };
  const half = await attempt(sources, rate / 2);
  if (passes(half)) return { ...taken(half), verdict: 'half-rate', rate: rate / 2, leftOut: null };

  let best: { result: Attempt<Merged>; without: Source } | null = null;
  const suspects = whole.merged === null ? sources : input.suspects(whole.merged, sources);
  if (suspects.length > 1) {
    for (const without of suspects.slice(0, LEAVE_ONE_OUT)) {
      const rest = sources.filter((source) => source !== without && suspects.includes(source));
      const result = await attempt(rest, rate);
      if (!best || isBetter(result.comparison, best.result.comparison)) best = { result, without };
    }
  }
  if (best && passes(best.result)) {
    return { ...taken(best.result), verdict: 'left-one-out', rate, leftOut: best.without };
  }
  return { accepted: false, reason: refusalReason(whole) };
}

/** One merge and its effect on the held-out loss. */
interface Attempt<Merged> {
  readonly merged: Merged | null;
  readonly losses: readonly RowLoss[];
  readonly comparison: Comparison;
}

type PassedAttempt<Merged> = Attempt<Merged> & { readonly merged: Merged };

function passes<Merged>(attempt: Attempt<Merged>): attempt is PassedAttempt<Merged> {
  return attempt.merged !== null && attempt.comparison.passes;
}

function taken<Merged>({ merged, losses }: PassedAttempt<Merged>) {
  return { accepted: true, merged, losses } as const;
}

function refusalReason({ merged, comparison: { worsening, allowed } }: Attempt<unknown>): string {
  const what =
    merged === null
      ? 'the merge would move weights further than an adapter can hold'
      : `the merge makes the held-out loss worse by ${worsening.toFixed(5)} nats per token (limit ${allowed.toFixed(5)})`;
  return `${what}; neither half the outer rate nor leaving out one update helped`;
}

function isBetter(a: Comparison, b: Comparison): boolean {
  return Number.isFinite(a.worsening) && !(a.worsening >= b.worsening);
}
