/** The choice of the rows that a round's updates are scored on. */
import { createHash } from 'node:crypto';
import { permutation } from '../../lora/data/permutation.ts';

/** Number of rows that scoring reads for each row that the nodes trained on. */
export const SCORING_SHARE = 0.1;
/**
 * Number of batches of rows that no node was assigned. The spread of the batches' gradients gives the standard error of
 * the effect.
 */
export const RANDOM_BATCHES = 4;
/** Largest number of rows of one such batch. */
export const RANDOM_ROWS = 8;
/**
 * Smallest number of rows of an author's interval that its update is scored on, even if scoring then reads more than
 * SCORING_SHARE. With fewer rows, the noise hides the gain.
 */
export const LEAST_OWN_ROWS = 8;
/**
 * Largest number of rows of an author's interval that its update is scored on. The gain on 64 rows has little noise
 * left.
 */
export const MOST_OWN_ROWS = 64;
/** Number of rows that a doubtful author gets for each row of any other author. */
const DOUBT_FACTOR = 4;

/** Number of random rows on which an update is applied as a whole, and the loss is measured again. */
export const EXACT_ROWS = 16;
/** Smallest number of such rows. On fewer rows, the losses say too little about an update. */
export const LEAST_EXACT_ROWS = 8;
/** Largest share of the scoring's rows that these losses may cost. */
const EXACT_SHARE = 0.5;
/** Number of other authors, who are not doubtful, whose exact effects are measured for comparison. */
export const REFERENCES = 3;
/** Cost of a row's loss, as a share of the cost of its gradient. */
const LOSS_COST = 1 / 3;

/** An update that is to be scored. */
export interface Candidate {
  /** Author and round, which name the update. */
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
  /**
   * Positions, taken from `random`, on which the exact effect of updates is measured, and the candidates for it in
   * their order: first some authors who are not doubtful, then the doubtful ones. Both lists are empty if there are no
   * doubtful authors, or if the rows would cost too much.
   */
  readonly exact: { readonly positions: readonly number[]; readonly candidates: readonly number[] };
}

/**
 * Chooses the rows. Their gradients and losses cost about SCORING_SHARE times as much as the gradients of the rows that
 * the nodes trained on.
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
  const perBatch = Math.min(RANDOM_ROWS, Math.max(1, Math.floor(budget / 4 / RANDOM_BATCHES)));
  const random = randomPositions(perBatch * RANDOM_BATCHES, { assignedEnd, rows, seed });
  const doubt = ({ isDoubtful }: Candidate): number => (isDoubtful ? DOUBT_FACTOR : 1);
  const doubts = candidates.reduce((sum, candidate) => sum + doubt(candidate), 0);
  const ranked = rankedBySeed(candidates, seed);
  const isDoubtfulOne = (candidate: number): boolean => candidates[candidate]!.isDoubtful;
  const doubtful = ranked.filter(isDoubtfulOne);
  const references = ranked.filter((candidate) => !isDoubtfulOne(candidate)).slice(0, REFERENCES);
  const measured = doubtful.length === 0 ? [] : [...references, ...doubtful];
  // The losses before the updates are measured once.
  const perExactRow = LOSS_COST * (1 + measured.length);
  const exactRows = Math.min(EXACT_ROWS, random.length, Math.floor((EXACT_SHARE * budget) / perExactRow));
  const isExact = measured.length > 0 && exactRows >= LEAST_EXACT_ROWS;
  const left = budget - perBatch * RANDOM_BATCHES - (isExact ? exactRows * perExactRow : 0);
  const own = candidates.map((candidate, i) => {
    const { key, start, end } = candidate;
    const share = Math.floor((left * doubt(candidate)) / doubts);
    const count = Math.min(end - start, MOST_OWN_ROWS, Math.max(LEAST_OWN_ROWS, share));
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
    exact: isExact
      ? { positions: random.slice(0, exactRows), candidates: measured }
      : { positions: [], candidates: [] },
  };
}

/** Returns the indices of the candidates in a random order. */
function rankedBySeed(candidates: readonly Candidate[], seed: Uint8Array): number[] {
  const ranks = candidates.map(({ key }) => keyOf(seed, key).toString('hex'));
  return candidates.map((_, i) => i).sort((a, b) => (ranks[a]! < ranks[b]! ? -1 : 1));
}

/** Returns random positions that no node was assigned. If too few of these are left, chooses from all positions. */
function randomPositions(
  count: number,
  { assignedEnd, rows, seed }: { assignedEnd: number; rows: number; seed: Uint8Array },
): number[] {
  const free = rows - assignedEnd;
  if (free >= count) return choose(free, count, seed, 'random').map((position) => assignedEnd + position);
  return choose(rows, Math.min(count, rows), seed, 'random');
}

/** Returns different random numbers below `below`. */
function choose(below: number, count: number, seed: Uint8Array, purpose: string): number[] {
  const permute = permutation(below, keyOf(seed, purpose));
  return Array.from({ length: count }, (_, i) => permute(i));
}

function keyOf(seed: Uint8Array, purpose: string): Buffer {
  return createHash('sha256').update(seed).update(purpose).digest();
}
