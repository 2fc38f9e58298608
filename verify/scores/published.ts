/** The updates of signed figures, and the rows on which they were scored. */
import type { Figures } from '../../protocol/messages.ts';
import { countedShare, isDoubtful } from './belief.ts';
import { planScoring, type ScorePlan } from './score-plan.ts';

/** An update in the figures that the coordinator published for a round. */
export type Published = Figures['updates'][number];

/** A figure that the coordinator published and that differs from the figure that was computed again. */
export interface ScoreMismatch {
  /** Author of the update, and the round for which it was trained. */
  readonly peer: string;
  readonly round: number;
  /** `interval`: the first position of the rows that the author was assigned. */
  readonly figure:
    | 'interval'
    | 'effect'
    | 'effectError'
    | 'gain'
    | 'exact'
    | 'ownRows'
    | 'late'
    | 'share'
    | 'belief'
    | 'harmful';
  readonly published: number | null;
  readonly computed: number | null;
}

/** The updates of a round that the coordinator could score, and the plan of their rows. */
export interface ScoredRound {
  /** `index`: place of the update in the figures. */
  readonly candidates: readonly { readonly index: number; readonly update: Published }[];
  readonly plan: ScorePlan;
}

/** Maximum number of rows in an interval: the largest number that `permutation` can permute. */
const MAX_INTERVAL = 2 ** 32;

/**
 * Returns the earlier shares of an update's author, newest first. A share counts as 0 if its update has failed the
 * audit.
 */
export function earlierOf({ earlier = [] }: Published): number[] {
  return earlier.map(countedShare);
}

/**
 * Returns whether the coordinator published an update as empty: it has the share 0, although it was not scored. Late
 * updates have no share.
 */
export function isPublishedEmpty({ score, share, harmful }: Published): boolean {
  return score === null && share === 0 && harmful;
}

/** Returns the updates whose interval or number of steps no honest coordinator assigns. No plan can be made for them. */
export function badIntervals({ updates }: Figures): ScoreMismatch[] {
  return updates
    .filter(({ start, end, steps }) => !(end > start && end - start <= MAX_INTERVAL && steps > 0))
    .map(({ peer, round, start }) => ({ peer, round, figure: 'interval', published: start, computed: null }));
}

/**
 * Repeats the plan by which the coordinator chose rows. The seed of the figures must not be null.
 * @param rows number of rows in the job's data
 * @param earlier returns the author's earlier shares, each 0 if its update has failed the audit. @default the published
 *   shares
 */
export function planOf(
  figures: Figures & { readonly seed: Uint8Array },
  { rows, earlier = earlierOf }: { rows: number; earlier?: (update: Published) => readonly number[] },
): ScoredRound {
  const { updates, parent, assignedEnd, seed } = figures;
  const candidates = updates.flatMap((update, index) =>
    update.parent === parent && !isPublishedEmpty(update) ? [{ index, update }] : [],
  );
  const wanted = candidates.map(({ update }) => {
    const { peer, round, start, end } = update;
    return { key: `${peer} ${round}`, start, end, isDoubtful: isDoubtful(earlier(update)) };
  });
  return { candidates, plan: planScoring(wanted, { assignedEnd, rows, seed }) };
}
