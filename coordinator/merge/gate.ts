/** The gate: the check on held-out data that a merge must pass to become a checkpoint. */
import type { RowLoss } from '../../lora/train/step.ts';
import { OUTER_RATE_FRACTIONS as FRACTIONS } from '../../protocol/job/outer-rates.ts';
import type { GateVerdict } from '../context.ts';
import { type Judgement, judge, noiseLimit } from './comparison.ts';

/** Maximum fraction of the merge's weight that the gate removes, so that at least half of the weight is merged. */
export const REMOVED_SHARE = 0.5;
/**
 * Maximum number of evaluations in one round. With 12 persons, 24 evaluations are enough to leave out each person in
 * turn, and then to leave out the worst two, three, five and six persons together.
 */
export const MAX_EVALUATIONS = 24;
/**
 * Maximum number of persons whose removal is evaluated one at a time. It is half of MAX_EVALUATIONS, so that
 * removals of several persons together can be evaluated too.
 */
export const PERSONS_ALONE = 12;

/**
 * The removal of persons from a merge must lower the loss by more than the noise limit times (1 + this factor × removed
 * fraction of the weight). The noise limit alone would be too low, because the gate chooses the best of many merges, so
 * the removal of honest persons can look helpful by chance. This effect grows with the removed fraction.
 */
const CHANCE_OF_CHOICE = 2;

/** A person whose updates are in the merge. */
export interface Person<Source> {
  readonly sources: readonly Source[];
  /** Weight of the person's updates in the merge. */
  readonly weight: number;
  /** Whether the scores of the person's updates are far below the scores of the other persons' updates. */
  readonly isSuspect: boolean;
}

export interface GateInput<Source, Merged> {
  /** Updates to merge, in order. */
  readonly sources: readonly Source[];
  /** The job's outer rate. */
  readonly rate: number;
  readonly tolerance: number;
  /** Whether the job ends with this merge. */
  readonly isLast: boolean;
  /** Losses of the parent checkpoint. Without held-out data the list is empty, and every merge passes. */
  readonly before: readonly RowLoss[];
  /** Losses of the lowest checkpoint (see `Losses.lowest`); null if the parent is the lowest checkpoint. */
  readonly lowest: readonly RowLoss[] | null;
  /** Returns the merge, or null if the values of the merge are too large for an adapter. */
  merge(sources: readonly Source[], rate: number): Promise<Merged | null>;
  evaluate(merged: Merged): Promise<readonly RowLoss[]>;
  /**
   * Returns the persons whose updates are in the merge of all updates, the most suspicious first. An update that is not
   * in this merge, for example because it is an outlier, is left out of all further merges too.
   * @param merged null if the merge of all updates failed
   */
  personsOf(merged: Merged | null): readonly Person<Source>[];
  /** Returns whether there is time for another evaluation. */
  hasTime(): boolean;
}

export type GateResult<Source, Merged> =
  | {
      readonly accepted: true;
      readonly verdict: Exclude<GateVerdict, 'refused' | 'rolled-back'>;
      readonly merged: Merged;
      readonly losses: readonly RowLoss[];
      /** The outer rate of the merge that passed. */
      readonly rate: number;
      readonly leftOut: readonly Source[];
    }
  | {
      readonly accepted: false;
      readonly reason: string;
      /**
       * Whether a variant of the merge was good enough compared with the parent, but not compared with the lowest
       * checkpoint. In this case, the loss of the parent itself is too far above the lowest loss.
       */
      readonly isDrifted: boolean;
    };

/**
 * Tries variants of the merge in this order, and takes the first variant that passes:
 * 1. all updates at the job's outer rate
 * 2. without suspects: without the most suspicious one, then without two, three, five, eight suspects and so on
 * 3. all updates at half the rate
 * 4. without each person in turn, and then without the two, three, five and so on whose removal helped most
 * 5. the best variant of step 4 at half the rate
 * 6. all updates at a quarter of the rate
 *
 * Step 2 comes before step 3, because half the rate would keep half of a harmful update. Step 4 comes after step 3,
 * because the gate must not remove persons who did nothing wrong if only the rate is too high. For the same reason,
 * steps 4 and 5 take a merge only if it lowers the loss of the merge of all updates by more than noise can explain, or
 * if the merge of all updates ruins rows.
 *
 * After a removal has passed, the gate removes more persons as long as these persons raise the loss.
 *
 * No variant removes more than the fraction REMOVED_SHARE of the merge's weight. If a variant is good enough compared
 * with the parent, but not compared with the lowest checkpoint, then no update of this round is at fault, and the gate
 * stops.
 */
export function passGate<Source, Merged>(
  input: GateInput<Source, Merged>,
): Promise<GateResult<Source, Merged>> {
  return new Attempts(input).run();
}

/**
 * A variant of the merge, with its held-out losses. `merged` is null if the values of the merge are too large
 * for an adapter.
 */
interface Attempt<Source, Merged> {
  readonly merged: Merged | null;
  readonly losses: readonly RowLoss[];
  readonly judgement: Judgement;
  readonly rate: number;
  readonly removed: readonly Person<Source>[];
}

/** Judgement of a merge that produced no adapter. */
const IMPOSSIBLE: Judgement = {
  passes: false,
  worsening: Infinity,
  ruinsRows: true,
  isDrifted: false,
  severity: Infinity,
  reason: 'the merge would give the adapter values that are too large',
};

class Attempts<Source, Merged> {
  readonly #input: GateInput<Source, Merged>;
  #persons: readonly Person<Source>[] | null = null;
  #evaluations = 0;
  /**
   * The attempt that ended the search. Either it passes, or it is no worse than its parent but too far above
   * the lowest checkpoint (`isDrifted`).
   */
  #last: Attempt<Source, Merged> | null = null;

  constructor(input: GateInput<Source, Merged>) {
    this.#input = input;
  }

  async run(): Promise<GateResult<Source, Merged>> {
    const whole = await this.#try([], this.#input.rate);
    this.#end(whole);
    if (!this.#last) {
      this.#persons = this.#input.personsOf(whole.merged);
      await this.#search(whole);
    }
    const { merged, losses, judgement, rate, removed } = this.#last ?? whole;
    if (judgement.passes && merged !== null) {
      const verdict = removed.length > 0 ? 'removed' : (VERDICTS.get(rate / this.#input.rate) ?? 'passed');
      const leftOut = removed.flatMap(({ sources }) => sources);
      return { accepted: true, verdict, merged, losses, rate, leftOut };
    }
    const { isDrifted, reason } = judgement;
    const tried = 'neither a lower outer rate nor the removal of persons helped';
    return { accepted: false, isDrifted, reason: isDrifted ? reason : `${reason}; ${tried}` };
  }

  /** Tries steps 2 to 6 of the list above {@link passGate}. Ends when `#last` is set. */
  async #search(whole: Attempt<Source, Merged>): Promise<void> {
    const { rate } = this.#input;
    const persons = this.#persons!.filter(({ weight }) => weight > 0);
    const suspects = persons.filter(({ isSuspect }) => isSuspect);
    const without = await this.#removeInOrder(suspects, null);
    if (without) this.#end(without);
    await this.#next([], rate * FRACTIONS.half);
    await this.#searchAll(whole, persons);
    await this.#next([], rate * FRACTIONS.quarter);
  }

  /** Tries steps 4 and 5 of the list above {@link passGate}. */
  async #searchAll(whole: Attempt<Source, Merged>, persons: readonly Person<Source>[]): Promise<void> {
    const { rate } = this.#input;
    const alone: Attempt<Source, Merged>[] = [];
    const left = (MAX_EVALUATIONS - this.#evaluations) >> 1;
    for (const person of persons.slice(0, Math.min(PERSONS_ALONE, left))) {
      if (this.#hasEnded || this.#removable([person]).length === 0) continue;
      alone.push(await this.#try([person], rate));
    }
    const [first] = alone.sort(bySeverity);
    if (!first) return;
    const order = alone.flatMap(({ removed }) => removed);
    const best = (await this.#removeInOrder(order, first))!;
    if (!this.#helps(best, whole)) return;
    this.#end(best);
    await this.#next(best.removed, rate * FRACTIONS.half);
  }

  /**
   * Tries merges without the first person, then without the first two, three, five and so on. After a merge has passed,
   * continues as long as the removal of the next persons lowers the loss. If the search ended at the first merge that
   * passes, attackers would stay in the merge whenever the honest updates outweigh their harm.
   * @param first the attempt without the first person; null if it has not been made
   * @returns the best attempt; null if there was none
   */
  async #removeInOrder(
    persons: readonly Person<Source>[],
    first: Attempt<Source, Merged> | null,
  ): Promise<Attempt<Source, Merged> | null> {
    const { rate } = this.#input;
    const order = this.#removable(persons);
    let best = first;
    for (const count of growing(first ? 2 : 1, order.length)) {
      if (this.#hasEnded) break;
      const attempt = await this.#try(order.slice(0, count), rate);
      if (best?.judgement.passes && !this.#isBetter(attempt, best)) break;
      if (!best || bySeverity(attempt, best) < 0) best = attempt;
    }
    return best;
  }

  /**
   * Compares the persons whom `next` removes with those whom `passed` removes. Returns whether the additional persons
   * raise the loss by more than noise can explain. The removal of updates that change nothing also improves a merge,
   * because the other updates then get more weight. This function subtracts that part of the improvement, because
   * updates that change nothing do no harm.
   */
  #isBetter(next: Attempt<Source, Merged>, passed: Attempt<Source, Merged>): boolean {
    const gain = passed.judgement.worsening - next.judgement.worsening;
    const left = weightOf(this.#persons!) - weightOf(next.removed);
    const more = weightOf(next.removed) - weightOf(passed.removed);
    const ofNothing = (Math.max(0, -passed.judgement.worsening) * more) / left;
    return next.judgement.passes && gain > noiseLimit(this.#input.tolerance) + ofNothing;
  }

  /** Returns whether the removal of persons who are not suspects helps by more than chance can explain. */
  #helps({ judgement, removed }: Attempt<Source, Merged>, whole: Attempt<Source, Merged>): boolean {
    const share = weightOf(removed) / weightOf(this.#persons!);
    const chance = noiseLimit(this.#input.tolerance) * (1 + CHANCE_OF_CHOICE * share);
    return whole.judgement.ruinsRows || whole.judgement.worsening - judgement.worsening > chance;
  }

  get #hasEnded(): boolean {
    return this.#last !== null || this.#evaluations >= MAX_EVALUATIONS || !this.#input.hasTime();
  }

  /** Makes an attempt that ends the search if it passes. Returns null if the search has ended already. */
  async #next(removed: readonly Person<Source>[], rate: number): Promise<Attempt<Source, Merged> | null> {
    if (this.#hasEnded) return null;
    const attempt = await this.#try(removed, rate);
    this.#end(attempt);
    return attempt;
  }

  async #try(removed: readonly Person<Source>[], rate: number): Promise<Attempt<Source, Merged>> {
    const { sources, tolerance, isLast, before, lowest, merge, evaluate } = this.#input;
    const gone = new Set(removed.flatMap((person) => person.sources));
    const merged = this.#persons && new Set(this.#persons.flatMap((person) => person.sources));
    const rest = sources.filter((source) => !gone.has(source) && (merged === null || merged.has(source)));
    this.#evaluations++;
    const result = await merge.call(this.#input, rest, rate);
    const losses = result !== null && before.length > 0 ? await evaluate.call(this.#input, result) : [];
    const judgement =
      result === null ? IMPOSSIBLE : judge({ before, lowest, after: losses }, { tolerance, isLast });
    return { merged: result, losses, judgement, rate, removed };
  }

  #end(attempt: Attempt<Source, Merged>): void {
    if (attempt.judgement.passes || attempt.judgement.isDrifted) this.#last ??= attempt;
  }

  /** Returns persons, in order, whose updates together have at most the fraction REMOVED_SHARE of the total weight. */
  #removable(persons: readonly Person<Source>[]): Person<Source>[] {
    const total = weightOf(this.#persons!);
    let removed = 0;
    return persons.filter(({ weight }) => {
      // The factor 1 + 1e-6 allows for rounding errors of the sum.
      if (removed + weight > REMOVED_SHARE * total * (1 + 1e-6)) return false;
      removed += weight;
      return true;
    });
  }
}

/** Verdicts on a merge of all updates at a lower outer rate, by the fraction of the job's outer rate. */
const VERDICTS = new Map([
  [FRACTIONS.half, 'half-rate'],
  [FRACTIONS.quarter, 'quarter-rate'],
] as const);

/** Yields growing numbers from `first` to `last`. Each is 1.5 times the previous one, rounded up. `last` comes last. */
function* growing(first: number, last: number): Generator<number> {
  for (let count = first; count < last; count += Math.ceil(count / 2)) yield count;
  if (last >= first) yield last;
}

function weightOf(persons: readonly { readonly weight: number }[]): number {
  return persons.reduce((sum, { weight }) => sum + weight, 0);
}

function bySeverity(a: { judgement: Judgement }, b: { judgement: Judgement }): number {
  const [x, y] = [a.judgement.severity, b.judgement.severity];
  // Two infinite severities are equal, although their difference is not a number.
  return x === y ? 0 : x - y;
}
