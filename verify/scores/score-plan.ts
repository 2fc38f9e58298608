/** Chooses the rows on which the updates of a round are scored. */
import { createHash } from 'node:crypto';
import { permutation } from '../../lora/data/permutation.ts';
import { MIN_EXACT_EFFECTS } from './belief.ts';
import { LOSS_COST, SCORING_SHARE } from './extra-work.ts';

/**
 * Number of batches of random rows, which are rows that were assigned to no node. The spread of the effects on the
 * batches gives the standard error of the effect.
 */
export const RANDOM_BATCHES = 4;
/** Maximum number of rows in a batch of random rows. */
export const RANDOM_ROWS = 8;
/**
 * Minimum number of rows in a batch of random rows, even if scoring then costs more than SCORING_SHARE. If only one
 * update is scored, one row is enough, because the share of a single update does not depend on its effect.
 */
const MIN_RANDOM_ROWS = 2;
/** Maximum fraction of the cost of scoring that goes into gradients on random rows. */
const RANDOM_SHARE = 0.25;
/**
 * Minimum number of rows of an author's interval on which its update is scored, even if scoring then costs more than
 * SCORING_SHARE. With fewer rows, the noise hides the gain.
 */
export const MIN_OWN_ROWS = 8;
/**
 * Maximum number of rows of an author's interval on which its update is scored. The gain on 64 rows has so little noise
 * that more rows are not needed.
 */
export const MAX_OWN_ROWS = 64;
/**
 * Every update is scored on MIN_OWN_ROWS rows of its author's interval, and on additional rows if the budget allows. An
 * update of a doubtful author gets this number of times as many additional rows as another update.
 */
const DOUBT_FACTOR = 4;

/** Maximum number of random rows on which exact effects are measured. */
export const EXACT_ROWS = 16;
/** Minimum number of random rows on which exact effects are measured. On fewer rows, exact effects are too noisy. */
export const MIN_EXACT_ROWS = 8;
/** Number of authors whose exact effects are measured for comparison, although they are not doubtful. */
export const REFERENCES = 3;

/** An update that is to be scored. */
export interface Candidate {
  /** Author and round, which identify the update. */
  readonly key: string;
  /** Interval of positions that the author was assigned. */
  readonly start: number;
  readonly end: number;
  /** Whether the author is new or has low shares. */
  readonly isDoubtful: boolean;
}

export interface ScorePlan {
  /**
   * RANDOM_BATCHES batches of positions in the round's order of rows. No node was assigned these positions, unless too
   * few unassigned positions are left.
   */
  readonly random: readonly (readonly number[])[];
  /**
   * For each candidate, positions in its author's interval. The list is in the order of scoring: doubtful authors come
   * first.
   */
  readonly own: readonly { readonly candidate: number; readonly positions: readonly number[] }[];
  readonly exact: ExactPlan;
}

/** The plan for measuring exact effects. It is empty if no author is doubtful, or if the budget is too small. */
export interface ExactPlan {
  /** Positions of the rows on which exact effects are measured. They are some of the random rows. */
  readonly positions: readonly number[];
  /** Candidates in the order of measuring: first a few authors who are not doubtful, then the doubtful authors. */
  readonly candidates: readonly number[];
  /** Maximum number of candidates that are measured. */
  readonly most: number;
}

const NO_EXACT: ExactPlan = { positions: [], candidates: [], most: 0 };

/**
 * Chooses the rows for the scores. The gradients and losses of these rows cost at most SCORING_SHARE times as much as
 * the gradients of the rows that the nodes trained on, if the intervals of the N candidates have on average at least
 * 100 · (1 + 1/N) rows. With smaller intervals, the minimum numbers of rows cost more.
 * @param assignedEnd first position of the round that no node was assigned
 * @param rows number of rows in the data
 * @param seed 32 random bytes, drawn after the round had closed
 */
export function planScoring(
  candidates: readonly Candidate[],
  { assignedEnd, rows, seed }: { assignedEnd: number; rows: number; seed: Uint8Array },
): ScorePlan {
  const trained = candidates.reduce((sum, { start, end }) => sum + end - start, 0);
  const budget = SCORING_SHARE * trained;
  const minOwn = candidates.map(({ start, end }) => Math.min(end - start, MIN_OWN_ROWS));
  const spare = budget - minOwn.reduce((sum, count) => sum + count, 0);
  const ranked = rankedBySeed(candidates, seed);
  const isDoubtfulOne = (candidate: number): boolean => candidates[candidate]!.isDoubtful;
  const doubtful = ranked.filter(isDoubtfulOne);
  const references = ranked.filter((candidate) => !isDoubtfulOne(candidate)).slice(0, REFERENCES);
  const wanted = doubtful.length === 0 ? [] : [...references, ...doubtful];

  const randomFor = (most: number): number[] => {
    const perBatch = Math.max(
      Math.min(MIN_RANDOM_ROWS, candidates.length),
      Math.min(RANDOM_ROWS, Math.floor(Math.min(RANDOM_SHARE * budget, most) / RANDOM_BATCHES)),
    );
    return randomPositions(perBatch * RANDOM_BATCHES, { assignedEnd, rows, seed });
  };
  // Leave two thirds of the spare budget for exact effects, if any can be measured.
  let random = randomFor(spare / 3);
  const exact = planExact(wanted, { random, budget: spare - random.length });
  if (exact === NO_EXACT) random = randomFor(spare);
  const left = spare - random.length - costOf(exact);
  const doubt = ({ isDoubtful }: Candidate): number => (isDoubtful ? DOUBT_FACTOR : 1);
  const doubts = candidates.reduce((sum, candidate) => sum + doubt(candidate), 0);
  const own = candidates.map((candidate, i) => {
    const { key, start, end } = candidate;
    const more = Math.max(0, Math.floor((left * doubt(candidate)) / doubts));
    const count = Math.min(end - start, MAX_OWN_ROWS, minOwn[i]! + more);
    const positions = choose(end - start, count, seed, key).map((position) => start + position);
    return { candidate: i, positions };
  });
  const rank = (candidate: number): number =>
    ranked.indexOf(candidate) + (isDoubtfulOne(candidate) ? 0 : candidates.length);
  return {
    random: Array.from({ length: RANDOM_BATCHES }, (_, i) =>
      random.filter((_, j) => j % RANDOM_BATCHES === i),
    ),
    own: own.sort((a, b) => rank(a.candidate) - rank(b.candidate)),
    exact,
  };
}

/**
 * Plans the measurement of exact effects. If half of the budget is enough, all candidates are measured, on up to
 * EXACT_ROWS rows, and the other half is left for gradients. With a smaller budget, only as many candidates are
 * measured as the budget allows, on MIN_EXACT_ROWS rows each.
 */
function planExact(
  candidates: readonly number[],
  { random, budget }: { random: readonly number[]; budget: number },
): ExactPlan {
  if (random.length < MIN_EXACT_ROWS) return NO_EXACT;
  const affordable = Math.floor(budget / 2 / LOSS_COST / (1 + candidates.length));
  const count = Math.max(MIN_EXACT_ROWS, Math.min(EXACT_ROWS, random.length, affordable));
  // Subtract 1, because the loss without any update is measured too.
  const most = Math.min(candidates.length, Math.floor(budget / LOSS_COST / count) - 1);
  return most < MIN_EXACT_EFFECTS ? NO_EXACT : { positions: random.slice(0, count), candidates, most };
}

function costOf({ positions, most }: ExactPlan): number {
  return LOSS_COST * positions.length * (1 + most);
}

/** Returns the indices of the candidates in a random order. */
function rankedBySeed(candidates: readonly Candidate[], seed: Uint8Array): number[] {
  const ranks = candidates.map(({ key }) => keyOf(seed, key).toString('hex'));
  return candidates.map((_, i) => i).sort((a, b) => (ranks[a]! < ranks[b]! ? -1 : 1));
}

/** Returns random positions that were assigned to no node. If too few of them are left, chooses from all positions. */
function randomPositions(
  count: number,
  { assignedEnd, rows, seed }: { assignedEnd: number; rows: number; seed: Uint8Array },
): number[] {
  const free = rows - assignedEnd;
  if (free >= count) return choose(free, count, seed, 'random').map((position) => assignedEnd + position);
  return choose(rows, Math.min(count, rows), seed, 'random');
}

/** Returns `count` distinct random integers from 0 to `below` − 1. */
function choose(below: number, count: number, seed: Uint8Array, purpose: string): number[] {
  if (count === 0) return [];
  const permute = permutation(below, keyOf(seed, purpose));
  return Array.from({ length: count }, (_, i) => permute(i));
}

function keyOf(seed: Uint8Array, purpose: string): Buffer {
  return createHash('sha256').update(seed).update(purpose).digest();
}
