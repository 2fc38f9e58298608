/** Repeats the arithmetic that leads from measured effects and gains to shares and beliefs. Needs no base and no data. */
import { isHarmful } from '../../lora/update/score.ts';
import type { Figures } from '../../protocol/messages.ts';
import { BELIEF_LINE, beliefOf, gainErrorOf, NEWCOMER_SHARE, sharesOf } from './belief.ts';
import {
  badIntervals,
  earlierOf,
  isPublishedEmpty,
  type Published,
  planOf,
  type ScoredRound,
  type ScoreMismatch,
} from './published.ts';
import { MIN_OWN_ROWS } from './score-plan.ts';

/** Maximum rounding error of a ratio of two row counts. */
const ROUNDING = 1e-9;

type Note = (
  update: Published,
  figure: ScoreMismatch['figure'],
  published: number | null,
  computed: number | null,
) => void;

/**
 * Checks that the published shares, beliefs and verdicts follow from the published effects and gains, and that the
 * updates were measured in the planned order, on the planned numbers of rows.
 * @param rows number of rows in the job's data
 * @param earlier returns the author's earlier shares, each 0 if its update has failed the audit. @default the published
 *   shares
 * @returns the published figures that differ; empty if all are right
 */
export function checkJudgement(
  figures: Figures,
  { rows, earlier = earlierOf }: { rows: number; earlier?: (update: Published) => readonly number[] },
): ScoreMismatch[] {
  const { seed, updates, parent } = figures;
  if (seed === null) return [];
  const found: ScoreMismatch[] = badIntervals(figures);
  if (found.length > 0) return found;
  const note: Note = ({ peer, round }, figure, published, computed) => {
    found.push({ peer, round, figure, published, computed });
  };
  const scored = planOf({ ...figures, seed }, { rows, earlier });
  checkOrder(scored, note);
  const shares = sharesByIndex(scored, earlier, { withExact: true });
  checkExact(scored, earlier, note);
  for (const [index, update] of updates.entries()) {
    const { score, late = null, share, belief, harmful } = update;
    if (update.parent !== parent && !isPublishedEmpty(update)) {
      checkLate(update, earlier(update), note);
      continue;
    }
    if (late !== null) note(update, 'late', late.effect, null);
    const isOut = isPublishedEmpty(update) || (score !== null && isHarmful(score));
    if (isOut !== harmful) note(update, 'harmful', Number(harmful), Number(isOut));
    const computed = isOut ? 0 : (shares.get(index) ?? null);
    if (computed !== share) note(update, 'share', share, computed);
    // If an update has no share, the belief in its author follows from the shares of earlier merges alone.
    const expected = beliefOf(computed === null ? earlier(update) : [computed, ...earlier(update)]);
    if (expected !== belief) note(update, 'belief', belief, expected);
  }
  return found;
}

/**
 * Checks a late update. It has no share, and its effect decides only whether it is harmful. The belief in its author is
 * at most NEWCOMER_SHARE.
 */
function checkLate(update: Published, earlier: readonly number[], note: Note): void {
  const { score, late, share, belief, harmful } = update;
  if (score !== null) note(update, 'effect', score.effect, null);
  if (share !== null) note(update, 'share', share, null);
  // Figures of older versions do not contain the effects of late updates.
  if (late !== undefined) {
    const isOut = late !== null && isHarmful(late);
    if (isOut !== harmful) note(update, 'harmful', Number(harmful), Number(isOut));
  }
  const expected = Math.min(beliefOf(earlier), NEWCOMER_SHARE);
  if (belief !== expected) note(update, 'belief', belief, expected);
}

/**
 * Checks which candidates were scored, and on how many rows. A slow coordinator scores only the first candidates of the
 * plan, each on the same fraction of its planned rows.
 */
function checkOrder({ candidates, plan }: ScoredRound, note: Note): void {
  const ordered = plan.own.map(({ candidate, positions }) => {
    const { update } = candidates[candidate]!;
    return { update, planned: positions.length, read: update.score?.ownRows ?? null };
  });
  const lastScored = ordered.findLastIndex(({ read }) => read !== null);
  let least = 0;
  let most = Infinity;
  for (const [i, { update, planned, read }] of ordered.entries()) {
    const needed = Math.min(planned, MIN_OWN_ROWS);
    if (read === null) {
      if (i < lastScored) note(update, 'ownRows', 0, needed);
    } else if (read < needed || read > planned) note(update, 'ownRows', read, needed);
    else {
      if (read > MIN_OWN_ROWS) least = Math.max(least, read / planned);
      if (read < planned) most = Math.min(most, (read + 1) / planned);
    }
  }
  if (least < most + ROUNDING) return;
  const short = ordered.find(({ read, planned }) => read !== null && (read + 1) / planned === most)!;
  note(short.update, 'ownRows', short.read, Math.floor(least * short.planned));
}

/** Checks that exact effects were measured in the planned order, and only for updates that need them. */
function checkExact(
  { candidates, plan }: ScoredRound,
  earlier: (update: Published) => readonly number[],
  note: Note,
): void {
  const without = sharesByIndex({ candidates, plan }, earlier, { withExact: false });
  const order = plan.exact.candidates.map((candidate) => candidates[candidate]!);
  const due = order.filter(({ index, update: { score } }) => {
    return score !== null && !isHarmful(score) && (without.get(index) ?? 1) >= BELIEF_LINE;
  });
  const measured = candidates.filter(({ update }) => typeof update.score?.exact === 'number');
  const expected = due.slice(0, Math.min(plan.exact.most, measured.length));
  for (const { index, update } of measured) {
    if (!expected.some((one) => one.index === index)) note(update, 'exact', update.score!.exact, null);
  }
}

/** Returns the shares of the scored candidates, by their place in the figures. */
function sharesByIndex(
  { candidates, plan }: ScoredRound,
  earlier: (update: Published) => readonly number[],
  { withExact }: { withExact: boolean },
): ReadonlyMap<number, number> {
  const randomRows = plan.random.flat().length;
  const measured = candidates.filter(({ update }) => update.score !== null);
  const shares = sharesOf(
    measured.map(({ update }) => {
      const { effect, effectError, gain, exact, ownRows } = update.score!;
      const { steps } = update;
      const gainError = gainErrorOf(effectError, { ownRows, randomRows });
      const whole = withExact && exact !== null ? { effect: exact, steps } : null;
      const perStep = { effect: effect / steps, effectError: effectError / steps };
      return { ...perStep, gain, gainError, exact: whole, earlier: earlier(update) };
    }),
  );
  return new Map(shares?.map((share, i) => [measured[i]!.index, share]));
}
