import { untrainedUpdates } from '../../../../coordinator/merge/untrained.ts';
import { type JudgedUpdate, misdeedsOf } from '../../../../coordinator/trust/misdeeds.ts';
import { type CountedStrike, sentenceOf, standingIn } from '../../../../coordinator/trust/standing.ts';
import { weighUpdates } from '../../../../verify/merge/update-weights.ts';
import { BELIEF_UPDATES, beliefOf, gainErrorOf, sharesOf } from '../../../../verify/scores/belief.ts';
import { MIN_OWN_ROWS, RANDOM_BATCHES } from '../../../../verify/scores/score-plan.ts';
import { SeededRandom } from '../../../utils/virtual/seeded-random.ts';

/** Rows of a random batch. The model gives all rows the same weight. */
const RANDOM_ROWS = 8;

/** Spreads of the scores of honest nodes, relative to the mean effect and the mean gain. */
export interface Spreads {
  /** Standard deviation of an honest node's effect from round to round. */
  readonly effect: number;
  /** Standard deviation of an honest node's gain from round to round. */
  readonly gain: number;
  /**
   * Standard error of a measured effect, caused by the random choice of rows. Half of its variance is the same for all
   * nodes of a round. The other half is drawn for each node.
   */
  readonly noise: number;
  /** Whether gains are only noise, as in a job whose data has fewer rows than an interval. @default false */
  readonly hasNoGain?: boolean;
  /** Mean gain as a multiple of the mean effect. It is large in a job that has almost converged. @default 1 */
  readonly gainOverEffect?: number;
}

/**
 * Effect and gain of a node that is not honest, relative to those of the honest; null in a round in which the node is
 * honest. `normal` draws from a normal distribution with mean 0 and standard deviation 1.
 */
export type Behaviour = (round: number, normal: () => number) => { effect: number; gain: number } | null;

export interface ModelledNode {
  readonly strikes: CountedStrike[];
  readonly beliefs: number[];
  /** Shares of its scored updates, oldest first. */
  readonly scored: number[];
  /** Share of the node in the weight of each round's merge. */
  readonly weights: number[];
  /** Rounds in which the node was suspended. */
  readonly suspended: number[];
}

/**
 * A swarm whose scores are drawn at random instead of measured. Shares, beliefs, misdeeds and standings follow from the
 * scores as in a coordinator. Honest nodes differ persistently: the mean effect of one may be 1.5 times that of another,
 * and the mean gain 2.1 times.
 */
export function playRounds(
  {
    honest,
    others = [],
    rounds,
    seed,
  }: { honest: number; others?: readonly Behaviour[]; rounds: number; seed: number },
  spreads: Spreads,
): ModelledNode[] {
  const random = new SeededRandom(seed);
  const normal = (): number =>
    Math.sqrt(-2 * Math.log(1 - random.next())) * Math.cos(2 * Math.PI * random.next());
  const nodes = Array.from({ length: honest + others.length }, (_, i) => ({
    peer: `node ${i}`,
    effect: random.between(0.75, 1.1),
    gain: random.between(0.55, 1.15),
    shares: [] as number[],
    scoredSince: 0,
    strikes: [] as CountedStrike[],
    beliefs: [] as number[],
    scored: [] as number[],
    weights: [] as number[],
    suspended: [] as number[],
  }));
  const rowsRead = { ownRows: MIN_OWN_ROWS, randomRows: RANDOM_BATCHES * RANDOM_ROWS };
  const gainOf = (node: { gain: number }): number =>
    spreads.hasNoGain
      ? gainErrorOf(spreads.noise, rowsRead) * normal()
      : node.gain * (1 + spreads.gain * normal());
  for (let round = 1; round <= rounds; round++) {
    const common = Array.from({ length: RANDOM_BATCHES }, normal);
    const assigned = nodes.filter((node) => {
      const isSuspended = standingIn(sentenceOf(node.strikes), round) === 'suspended';
      if (isSuspended) node.suspended.push(round);
      return !isSuspended;
    });
    const figures = assigned.map((node) => {
      const behaviour = others[nodes.indexOf(node) - honest]?.(round, normal);
      const effect = behaviour?.effect ?? node.effect * (1 + spreads.effect * normal());
      const gain = (spreads.gainOverEffect ?? 1) * (behaviour?.gain ?? gainOf(node));
      const ofBatch = spreads.noise * Math.sqrt(RANDOM_BATCHES);
      const batches = common.map((z) => effect + ofBatch * Math.SQRT1_2 * (z + normal()));
      const mean = batches.reduce((sum, value) => sum + value, 0) / RANDOM_BATCHES;
      const squares = batches.reduce((sum, value) => sum + (value - mean) ** 2, 0);
      const effectError = Math.sqrt(squares / (RANDOM_BATCHES - 1) / RANDOM_BATCHES);
      return { effect: mean, effectError, gain, exact: null, ownRows: MIN_OWN_ROWS };
    });
    const shares = sharesOf(
      figures.map(({ effect, effectError, gain }, i) => {
        const gainError = gainErrorOf(effectError, rowsRead);
        return { effect, effectError, gain, gainError, earlier: assigned[i]!.shares };
      }),
    );
    const judged = assigned.map((node, i): JudgedUpdate => {
      const { effect, effectError } = figures[i]!;
      const isHarmful = effect + 2 * effectError < 0;
      const share = isHarmful ? 0 : (shares?.[i] ?? null);
      const known = share === null ? node.shares : [share, ...node.shares];
      const scoredSince = node.scoredSince + (share === null ? 0 : 1);
      const whole = { digest: '', steps: 1, isOutlier: false, isBadPayload: false };
      const common = { peer: node.peer, round, ...whole, earlier: node.shares };
      return { ...common, figures: figures[i]!, share, belief: beliefOf(known), isHarmful, scoredSince };
    });
    const { misdeeds, isShared, isClear } = misdeedsOf(judged);
    // These calls are the same as in coordinator/merge/merge-round.ts.
    const untrained = untrainedUpdates(judged);
    const weights = weighUpdates(
      judged.map(({ peer, belief, isHarmful, earlier }, i) => {
        const isOut = isHarmful || untrained[i]!;
        const isNewcomer = earlier.length < BELIEF_UPDATES;
        return { round, tokens: 1, maxTokens: 1, belief: isOut ? 0 : belief, person: peer, isNewcomer };
      }),
      round,
    );
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    for (const node of nodes) {
      const place = assigned.indexOf(node);
      node.weights.push(place < 0 || total === 0 ? 0 : weights[place]! / total);
    }
    for (const [i, node] of assigned.entries()) {
      const { share, belief, scoredSince } = judged[i]!;
      const misdeed = isShared ? undefined : misdeeds.find(({ peer }) => peer === node.peer);
      if (misdeed) node.strikes.push({ kind: misdeed.kind, round, foundIn: round });
      node.scoredSince = !isClear || misdeed?.kind === 'disbelief' ? 0 : scoredSince;
      node.beliefs.push(belief);
      if (share === null) continue;
      node.scored.push(share);
      node.shares = [share, ...node.shares].slice(0, BELIEF_UPDATES);
    }
  }
  return nodes;
}
