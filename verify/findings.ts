import { type ProblemCode, verifyError } from './errors.ts';

/** A check of a checkpoint. */
export type CheckName =
  | 'signature'
  | 'chain'
  | 'settings'
  | 'heads'
  | 'contributors'
  | 'receipts'
  | 'weights'
  | 'metrics'
  | 'merge'
  | 'adapter'
  | 'rollback'
  | 'figures'
  | 'shares'
  | 'scores'
  | 'loss';

/** A statement of the coordinator that is wrong, or bytes that are damaged. */
export interface Problem {
  readonly code: ProblemCode;
  /** Round of the checkpoint; null if the problem concerns the whole job. */
  readonly round: number | null;
  readonly message: string;
  /** The facts of the message as an object. */
  readonly values: Readonly<Record<string, unknown>>;
}

/** Maximum number of problems that a report lists. More would not change the verdict. */
export const LISTED_PROBLEMS = 100;

/**
 * Adds problems to the list of a report. A full list still takes the first problem that disproves the coordinator, in
 * place of the newest problem in the list, because the exit code depends on it.
 */
export function addProblems(problems: Problem[], more: readonly Problem[]): void {
  const room = LISTED_PROBLEMS - problems.length;
  problems.push(...more.slice(0, room));
  if (problems.some(isDisproof)) return;
  const disproof = more.slice(room).find(isDisproof);
  if (disproof !== undefined) problems.splice(-1, 1, disproof);
}

function isDisproof({ code }: Problem): boolean {
  return verifyError.table[code] === 'disproved';
}

/** The checks of one checkpoint. */
export interface CheckpointReport {
  readonly round: number;
  readonly digest: string;
  /** Checks that were made, including those that found a problem. */
  readonly checked: readonly CheckName[];
  /** Checks that could not be made, or only in part, with the reason. */
  readonly unchecked: readonly { readonly check: CheckName; readonly reason: string }[];
  /** Whether the merge was computed again from its updates and gave the same bits. */
  readonly recomputed: boolean;
  /** The published held-out loss, and the loss that this machine measured. Absent if the loss was not measured. */
  readonly loss?: MeasuredLoss;
  /** The measurement of published scores. Absent if no score was measured. */
  readonly scores?: MeasuredScores;
}

/** A measurement of the scores of a merge. */
export interface MeasuredScores {
  /** Number of updates whose effect was measured, and number of updates whose gain was measured too. */
  readonly effects: number;
  readonly gains: number;
  /** Largest difference between a published and a measured figure, as a fraction of a typical inner product. */
  readonly difference: number;
}

/** A held-out loss in nats per token. `measured` is null if the held-out rows have no supervised token. */
export interface MeasuredLoss {
  readonly published: number;
  readonly measured: number | null;
}

/** Collects the results of the checks of one checkpoint. */
export class Findings {
  readonly round: number;
  readonly problems: Problem[] = [];
  readonly #checked = new Set<CheckName>();
  readonly #unchecked: { check: CheckName; reason: string }[] = [];
  recomputed = false;
  loss: MeasuredLoss | null = null;
  scores: MeasuredScores | null = null;

  constructor(round: number) {
    this.round = round;
  }

  done(check: CheckName): void {
    this.#checked.add(check);
  }

  skip(check: CheckName, reason: string): void {
    if (this.#unchecked.some((one) => one.check === check && one.reason === reason)) return;
    this.#unchecked.push({ check, reason });
  }

  problem(code: ProblemCode, message: string, values: Readonly<Record<string, unknown>> = {}): void {
    const text = `round ${this.round}: ${message}`;
    // Report a problem only once, because several checks may read the same damaged blob.
    if (this.problems.some((one) => one.code === code && one.message === text)) return;
    this.problems.push({
      code,
      round: this.round,
      message: text,
      values: { round: this.round, ...values },
    });
  }

  report(digest: string): CheckpointReport {
    const { round, recomputed, loss, scores } = this;
    const checks = { checked: [...this.#checked], unchecked: this.#unchecked };
    return {
      round,
      digest,
      ...checks,
      recomputed,
      ...(loss !== null && { loss }),
      ...(scores !== null && { scores }),
    };
  }
}
