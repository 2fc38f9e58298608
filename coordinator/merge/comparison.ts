/** Statistics and limits of the gate, which compares the losses of adapters on the same held-out rows. */
import type { RowLoss } from '../../lora/train/step.ts';

/**
 * Minimum unit of the gate's limits. The limits below are multiples of the job's tolerance, or of this value
 * if the tolerance is lower. This value keeps the limits above the noise of training and measuring, which a
 * low tolerance does not reduce. Decision 047 has the measurements behind the multiples.
 */
export const MIN_UNIT = 0.002;
/**
 * Maximum increase of the loss over the parent's loss that can pass as noise, as a multiple of the tolerance. Two
 * standard errors alone would not be a limit, because a merge that ruins 3 of 64 rows raises both the mean loss and the
 * standard error.
 */
export const NOISE_LIMIT = 2.5;
/**
 * Maximum increase of the loss over the lowest loss since the newest roll-back, as a multiple of the tolerance. Without
 * this limit, the loss could rise by `tolerance` in every round. In the last round of a job, the limit over the lowest
 * loss is as strict as the limit over the parent's loss, because no later round can lower the loss again.
 */
export const DRIFT_LIMIT = 10;
/**
 * Maximum increase of the loss on the worst rows (see `Change.worstRows`) over the parent's loss on the same rows, as a
 * multiple of the tolerance.
 */
export const WORST_ROWS_LIMIT = 50;
/**
 * Maximum increase of the loss on the worst rows over the loss that the lowest checkpoint has on the same rows, as a
 * multiple of the tolerance. It is higher than WORST_ROWS_LIMIT, because the lowest checkpoint may be many rounds old.
 */
export const WORST_ROWS_DRIFT_LIMIT = 100;

/**
 * Minimum loss, in nats per token, by which a change is divided to make it relative. The noise of training falls more
 * slowly than the loss, so changes relative to a lower loss would be mostly noise.
 */
export const MIN_LOSS = 0.5;

/** Fraction of the rows that count as the worst rows: 4 of 64. */
export const WORST_SHARE = 1 / 16;

/** Returns the mean loss in nats per supervised token; null if the rows have no supervised token. */
export function meanLoss(rows: readonly RowLoss[]): number | null {
  const tokens = rows.reduce((sum, row) => sum + row.tokens, 0);
  return tokens > 0 ? rows.reduce((sum, row) => sum + row.lossSum, 0) / tokens : null;
}

/**
 * The change from one adapter to another. All figures are divided by the first adapter's loss (or by MIN_LOSS if that
 * is more), so 0.01 means that the loss is 1 % higher.
 */
export interface Change {
  /**
   * Increase of the loss from the first adapter to the second, averaged over the rows; negative if the second adapter
   * is better.
   */
  readonly worsening: number;
  /** Standard error of `worsening`; 0 for a single row. */
  readonly standardError: number;
  /**
   * Average increase in loss of the worst rows. The worst rows are the rows whose loss increased most. Their number is
   * the fraction WORST_SHARE of all rows.
   */
  readonly worstRows: number;
}

/**
 * Compares the losses of two adapters row by row, so that the difficulty of a row cancels out. Each row counts equally.
 * Rows without supervised tokens are ignored.
 * @returns null if no row has supervised tokens
 */
export function changeOf(before: readonly RowLoss[], after: readonly RowLoss[]): Change | null {
  const differences: number[] = [];
  let sum = 0;
  for (const [i, row] of before.entries()) {
    const other = after[i];
    if (row.tokens === 0 || other === undefined) continue;
    sum += row.lossSum / row.tokens;
    differences.push(other.lossSum / other.tokens - row.lossSum / row.tokens);
  }
  const count = differences.length;
  if (count === 0) return null;
  const loss = Math.max(sum / count, MIN_LOSS);
  const worsening = mean(differences);
  const squares = differences.reduce((total, d) => total + (d - worsening) ** 2, 0);
  const standardError = count > 1 ? Math.sqrt(squares / (count - 1) / count) : 0;
  const worst = differences.toSorted((a, b) => b - a).slice(0, Math.ceil(WORST_SHARE * count));
  return {
    worsening: worsening / loss,
    standardError: standardError / loss,
    worstRows: mean(worst) / loss,
  };
}

/** Returns the maximum increase of the loss that noise alone can explain, relative to the loss. */
export function noiseLimit(tolerance: number): number {
  return NOISE_LIMIT * Math.max(tolerance, MIN_UNIT);
}

/** Result of the comparison of a merge with its parent and with the lowest checkpoint. */
export interface Judgement {
  readonly passes: boolean;
  /** Increase of the loss over the parent's loss; infinite if a loss is not finite. */
  readonly worsening: number;
  /** Whether the loss on the worst rows has increased by more than WORST_ROWS_LIMIT, compared with the parent. */
  readonly ruinsRows: boolean;
  /**
   * Whether the merge passes the limits that compare it with its parent, but not the limits that compare it
   * with the lowest checkpoint.
   */
  readonly isDrifted: boolean;
  /**
   * Maximum of all increases of the loss, each divided by its limit. If two merges do not pass, the one with the lower
   * severity is better.
   */
  readonly severity: number;
  /** Text for people that says why the merge does not pass; empty if it passes. */
  readonly reason: string;
}

/** Losses of three adapters on the same held-out rows. */
export interface Losses {
  /** Losses of the parent checkpoint. */
  readonly before: readonly RowLoss[];
  /**
   * Losses of the lowest checkpoint, which is the one with the lowest mean loss since the newest roll-back; null if it is
   * the parent.
   */
  readonly lowest: readonly RowLoss[] | null;
  /** Losses of the merge. */
  readonly after: readonly RowLoss[];
}

export interface JudgeOptions {
  readonly tolerance: number;
  /** Whether the job ends with this merge. @default false */
  readonly isLast?: boolean;
}

/**
 * Judges a merge. Its mean loss may exceed the parent's mean loss by `tolerance` or, if that is more, by two standard
 * errors of the increase, but never by more than `noiseLimit(tolerance)`. In the last round of a job, the same limit
 * applies to the increase over the lowest checkpoint. All other limits are fixed multiples of the tolerance. A loss
 * that is not finite never passes.
 */
export function judge(
  { before, lowest, after }: Losses,
  { tolerance, isLast = false }: JudgeOptions,
): Judgement {
  const unit = Math.max(tolerance, MIN_UNIT);
  const allowed = ({ standardError }: Change): number =>
    Math.max(tolerance, Math.min(2 * standardError, noiseLimit(tolerance)));
  const step = changeOf(before, after);
  if (step === null)
    return { passes: true, worsening: 0, ruinsRows: false, isDrifted: false, severity: 0, reason: '' };
  const found: Finding[] = [
    { than: PARENT, rows: '', by: step.worsening, limit: allowed(step), scale: noiseLimit(tolerance) },
    { than: PARENT, rows: WORST, by: step.worstRows, limit: WORST_ROWS_LIMIT * unit },
  ];
  const drift = lowest && changeOf(lowest, after);
  if (drift) {
    const limit = isLast ? allowed(drift) : DRIFT_LIMIT * unit;
    found.push(
      { than: LOWEST, rows: '', by: drift.worsening, limit, scale: DRIFT_LIMIT * unit },
      { than: LOWEST, rows: WORST, by: drift.worstRows, limit: WORST_ROWS_DRIFT_LIMIT * unit },
    );
  }
  // The comparison is negated, so that NaN counts as failed.
  const failed = found.filter(({ by, limit }) => !(by <= limit));
  const [first] = failed;
  const severity = Math.max(...found.map(({ by, limit, scale = limit }) => by / scale));
  return {
    passes: first === undefined,
    worsening: Number.isNaN(step.worsening) ? Infinity : step.worsening,
    ruinsRows: failed.some(({ than, rows }) => than === PARENT && rows === WORST),
    isDrifted: first !== undefined && failed.every(({ than }) => than === LOWEST),
    severity: Number.isNaN(severity) ? Infinity : severity,
    reason: first === undefined ? '' : reasonOf(first),
  };
}

const PARENT = "the parent's";
const LOWEST = "the lowest checkpoint's";
const WORST = ' on the worst rows';

interface Finding {
  readonly than: typeof PARENT | typeof LOWEST;
  readonly rows: typeof WORST | '';
  readonly by: number;
  readonly limit: number;
  /**
   * Number by which the increase of the loss (`by`) is divided to get its severity. It is given where `limit`
   * can be 0. @default limit
   */
  readonly scale?: number;
}

function reasonOf({ than, rows, by, limit }: Finding): string {
  const percent = (share: number): string => `${(100 * share).toFixed(2)} %`;
  return `the held-out loss of the merge${rows} is ${percent(by)} above ${than}; the gate allows at most ${percent(limit)}`;
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
