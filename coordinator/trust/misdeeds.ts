/** Finds the misdeeds among the updates of a round. */
import { weightedMedian } from '../../lora/update/merge.ts';
import { BELIEF_UPDATES, CLEAR_ERRORS, earnedBelief } from '../../verify/scores/belief.ts';
import type { StoredScore } from '../store/scores.ts';

/**
 * Maximum earned belief of all suspected authors of a round together, as a fraction of the earned belief of all authors
 * of the round. If the suspected authors have more, the cause is probably a fault that they share, and no author gets a
 * strike.
 */
export const SHARED_FAULT = 0.5;

/** An update of a round, with its score and facts about its author. */
export interface JudgedUpdate extends Pick<StoredScore, 'figures' | 'share' | 'belief' | 'isHarmful'> {
  readonly peer: string;
  /** The round in which the update was trained. */
  readonly round: number;
  /** Digest of the payload. */
  readonly digest: string;
  /** Number of assigned optimiser steps. */
  readonly steps: number;
  /** Whether the merge refused the update because of its norm. */
  readonly isOutlier: boolean;
  /** Whether the payload does not decode. */
  readonly isBadPayload: boolean;
  /** Shares of the author's updates in earlier merges, newest first. */
  readonly earlier: readonly number[];
  /**
   * Number of the author's scored updates, including this one, since the later of two events: the author's last
   * strike for disbelief, and the last round whose scores were not clear.
   */
  readonly scoredSince: number;
}

export interface Misdeed {
  readonly peer: string;
  readonly round: number;
  readonly digest: string;
  readonly kind: 'harmful' | 'outlier' | 'bad-payload' | 'disbelief';
  readonly figures: Readonly<Record<string, number>>;
}

/**
 * Returns the misdeeds among the updates of a round.
 * - `bad-payload`: the payload does not decode.
 * - `harmful`: the effect is more than two standard errors below zero, or all values are zero.
 * - `outlier`: the norm is far above the norms of the other updates.
 * - `disbelief`: the belief in the author is 0 after at least BELIEF_UPDATES scored updates. Another strike for
 *   disbelief needs BELIEF_UPDATES new updates. Otherwise, one bad update would lead to three strikes.
 *
 * If the suspected authors have more than half of the earned belief of all authors of the round, the cause is probably
 * a fault that many nodes share, such as a broken release or wrong settings. In this case, `isShared` is true, and the
 * caller must strike no author. If no author has earned belief, all authors count equally.
 * @returns `misdeeds`, the number `faulty` of updates that seem to be misdeeds, whether a shared fault caused them
 * (`isShared`), and whether the scores of the round are clear (`isClear`)
 */
export function misdeedsOf(updates: readonly JudgedUpdate[]): {
  readonly misdeeds: readonly Misdeed[];
  readonly faulty: number;
  readonly isShared: boolean;
  readonly isClear: boolean;
} {
  const isClear = effectsAreClear(updates);
  const faulty = updates.filter((update) => suspicionOf(update) !== null);
  const misdeeds = faulty.flatMap((update): Misdeed[] => {
    const kind = suspicionOf(update)!;
    // An update that contains only zeros or does not decode has no figures. Noise does not cause such an update, so it
    // is a misdeed even if the scores are not clear.
    if (!isClear && kind !== 'outlier' && update.figures !== null) return [];
    const { peer, round, digest } = update;
    return [{ peer, round, digest, kind, figures: evidenceOf(update) }];
  });
  const earned = new Map(updates.map(({ peer, earlier }) => [peer, earnedBelief(earlier)]));
  const isEarned = [...earned.values()].some((belief) => belief > 0);
  const weigh = (peers: Iterable<string>): number =>
    [...new Set(peers)].reduce((sum, peer) => sum + (isEarned ? earned.get(peer)! : 1), 0);
  const suspected = weigh(faulty.map(({ peer }) => peer));
  const isShared = suspected > SHARED_FAULT * weigh(earned.keys());
  return { misdeeds, faulty: faulty.length, isShared, isClear };
}

/** Returns the misdeed that an update seems to be, even if the scores are not clear; null for none. */
function suspicionOf(update: JudgedUpdate): Misdeed['kind'] | null {
  const { share, belief, isHarmful, isOutlier, isBadPayload, scoredSince } = update;
  if (isBadPayload) return 'bad-payload';
  // A late update without a share can raise the loss although its author is honest, so it is not a misdeed.
  if (isHarmful) return share === null ? null : 'harmful';
  if (isOutlier) return 'outlier';
  return share !== null && belief === 0 && scoredSince >= BELIEF_UPDATES ? 'disbelief' : null;
}

/**
 * Returns whether the median effect is more than CLEAR_ERRORS standard errors above zero. Only then do scores lead to
 * strikes, because one in fourteen honest updates seems harmful when a job has almost converged. The median is weighted
 * as in `sharesOf`.
 */
export function effectsAreClear(
  updates: readonly Pick<JudgedUpdate, 'figures' | 'steps' | 'earlier'>[],
): boolean {
  const scored = updates.flatMap(({ figures, steps, earlier }) =>
    figures === null
      ? []
      : [
          {
            effect: figures.effect / steps,
            error: figures.effectError / steps,
            earned: earnedBelief(earlier),
          },
        ],
  );
  const isEarned = scored.some(({ earned }) => earned > 0);
  const weights = scored.map(({ earned }) => (isEarned ? earned : 1));
  const median = (figure: 'effect' | 'error'): number =>
    weightedMedian(
      scored.map((one) => one[figure]),
      weights,
    );
  const effect = median('effect');
  return effect > 0 && effect > CLEAR_ERRORS * median('error');
}

function evidenceOf({ figures, share, belief, isBadPayload }: JudgedUpdate): Record<string, number> {
  if (isBadPayload) return {};
  return {
    ...(figures && { effect: figures.effect, error: figures.effectError, gain: figures.gain }),
    ...(share !== null && { share }),
    belief,
  };
}
