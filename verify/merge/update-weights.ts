/** The weights of updates in a merge. Decision 046 has the reasons. */
import { capWeights, stalenessWeight, weightedMedian } from '../../lora/update/index.ts';
import type { Manifest } from '../../protocol/job/manifest.ts';
import { expectedTokens } from './expected-tokens.ts';

/** Maximum total weight of one person's updates in a merge, as a multiple of the median person's total weight. */
export const PERSON_MEDIANS = 2;
/**
 * Maximum fraction of a merge's total weight that all newcomers have together, if there are believed nodes. With open
 * admission, an attacker can make any number of newcomers at no cost. With a quarter, the believed nodes have three
 * times the weight of all newcomers, so newcomers can cancel at most a third of what the believed nodes learn.
 */
export const NEWCOMERS_SHARE = 0.25;

/**
 * Maximum ratio of the tokens that an author claims to the tokens that its assigned rows are expected to have. Rows
 * have different numbers of supervised tokens, so an honest author may have trained somewhat more tokens than expected.
 */
const CLAIM_SLACK = 1.25;

/** Facts that decide the weight of an update. */
export interface Weighable {
  /** The round in which the update was trained. */
  readonly round: number;
  /** Number of tokens that the author claims to have trained. */
  readonly tokens: number;
  /** Maximum number of tokens for which the update gets weight. `believableTokens` computes it. */
  readonly maxTokens: number;
  /** The belief in the author, from 0 to 1 (verify/scores/belief.ts). */
  readonly belief: number;
  /** The person who answers for the author (coordinator/peers/person.ts). */
  readonly person: string;
  /** Whether the author had fewer than BELIEF_UPDATES scored updates before this merge. */
  readonly isNewcomer: boolean;
}

/**
 * Returns the maximum number of tokens for which an update gets weight, if its author was assigned `steps` optimiser
 * steps. If the author claims more tokens, the surplus adds no weight.
 */
export function believableTokens(steps: number, manifest: Pick<Manifest, 'data' | 'training'>): number {
  return Math.ceil(CLAIM_SLACK * expectedTokens(steps, manifest));
}

/**
 * Returns the weight of each update of a merge, in float32:
 * 1. The weight begins with the number of trained tokens. It is at most `maxTokens`, and at most WEIGHT_CAP_MEDIANS
 *    times the median number.
 * 2. It is multiplied by the belief in the author and, with a staleness of τ rounds, by (1+τ)^−½.
 * 3. If all updates of a person together weigh more than PERSON_MEDIANS times the total weight of the median person,
 *    they are scaled down to this limit. Late updates are included, so a person gains nothing by sending several
 *    updates at once.
 * 4. If there are believed nodes, and the updates of all newcomers together have more than the fraction NEWCOMERS_SHARE
 *    of the total weight, the updates of newcomers are scaled down to this fraction.
 *
 * Both medians are weighted by belief, and newcomers do not count in them if there are believed nodes. Therefore new
 * identities cannot move the medians. If no limit applies, the weight of an update is the result of step 2.
 * @param round number of the round that is merged
 */
export function weighUpdates(updates: readonly Weighable[], round: number): number[] {
  const votes = votesOf(updates);
  const tokens = updates.map((update) => Math.min(update.tokens, update.maxTokens));
  const capped = capWeights(tokens, weightedMedian(tokens, votes));
  const weights = updates.map(({ round: made, belief }, i) =>
    Math.fround(capped[i]! * stalenessWeight(Math.max(0, round - made)) * belief),
  );
  return limitNewcomers(updates, limitPersons(updates, weights, votes));
}

/**
 * Returns the weight that each update's author has in weighted medians. This weight is the belief in the
 * author, but 0 for a newcomer. If there are no believed nodes, all authors with belief above 0 have the same
 * weight.
 */
export function votesOf(updates: readonly Pick<Weighable, 'belief' | 'isNewcomer'>[]): number[] {
  const believed = updates.map(({ belief, isNewcomer }) => (isNewcomer ? 0 : belief));
  if (believed.some((vote) => vote > 0)) return believed;
  const any = updates.map(({ belief }) => (belief > 0 ? 1 : 0));
  return any.some((vote) => vote > 0) ? any : updates.map(() => 1);
}

function limitPersons(
  updates: readonly Weighable[],
  weights: readonly number[],
  votes: readonly number[],
): number[] {
  const persons = new Map<string, { total: number; vote: number }>();
  for (const [i, { person }] of updates.entries()) {
    const { total, vote } = persons.get(person) ?? { total: 0, vote: 0 };
    persons.set(person, { total: total + weights[i]!, vote: Math.max(vote, votes[i]!) });
  }
  const all = [...persons.values()];
  const median = weightedMedian(
    all.map(({ total }) => total),
    all.map(({ vote }) => vote),
  );
  const most = PERSON_MEDIANS * median;
  return updates.map(({ person }, i) => {
    const { total } = persons.get(person)!;
    return total > most ? Math.fround((weights[i]! * most) / total) : weights[i]!;
  });
}

function limitNewcomers(updates: readonly Weighable[], weights: readonly number[]): number[] {
  const totalOf = (newcomers: boolean): number =>
    updates.reduce((sum, { isNewcomer }, i) => sum + (isNewcomer === newcomers ? weights[i]! : 0), 0);
  const believed = totalOf(false);
  const given = totalOf(true);
  const most = (believed * NEWCOMERS_SHARE) / (1 - NEWCOMERS_SHARE);
  if (believed === 0 || given <= most) return [...weights];
  return updates.map(({ isNewcomer }, i) =>
    isNewcomer ? Math.fround((weights[i]! * most) / given) : weights[i]!,
  );
}
