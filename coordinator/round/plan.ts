import { weightedMedian } from '../../lora/update/merge.ts';
import type { Manifest } from '../../protocol/job/manifest.ts';
import { ROUND_PEERS } from '../../protocol/limits.ts';
import type { Head } from '../../protocol/messages.ts';
import { BELIEF_LINE, BELIEF_UPDATES, beliefOf, earnedBelief } from '../../verify/scores/belief.ts';
import { MIN_STEPS } from '../audits/verdict.ts';

export type Preset = Head['preset'];
export type Assignment = Head['assignments'][number];

/**
 * How far the coordinator trusts the person who answers for a node:
 * - `good`: has too few strikes for a consequence
 * - `probation`: gets the minimum number of steps
 * - `suspended`: gets no assignment
 * - `banned`: gets no assignment, and cannot join
 */
export type Standing = 'good' | 'probation' | 'suspended' | 'banned';

/** Facts about a node that is ready to train. They decide how much work it gets in a round. */
export interface PresentPeer {
  /** Speed in tokens per second, as `speedAfter` computes it; 0 if the speed has not been measured. */
  readonly speed: number;
  /**
   * Shares (see `sharesOf` in verify/scores/belief.ts) of the node's newest scored updates, at most BELIEF_UPDATES, newest
   * first.
   */
  readonly shares: readonly number[];
  readonly standing: Standing;
}

/** With "auto", rounds of at least this many nodes use "balanced", and smaller rounds use "dense" (decision 050). */
export const AUTO_SPARSE_PEERS = 4;
/**
 * Minimum number of steps of a node, as a fraction of the fastest node's steps. A node with less than this fraction of
 * the fastest node's speed gets the minimum too, and its updates arrive late.
 */
export const MIN_STEPS_SHARE = 1 / 3;
/** Maximum speed that counts for a proven node, as a multiple of the median speed (see `stepsOf`). */
export const SPEED_MEDIANS = 3;
/**
 * Minimum belief with which a node gets all steps that its speed allows, as a fraction of the median belief. A node
 * with less belief gets fewer steps. The fraction is below 1 because beliefs are noisy. It is low enough that the
 * beliefs of honest nodes lie above it (decision 043).
 */
export const FULL_BELIEF = 0.6;
/** Fraction of a round's places that is reserved for nodes that are not believed yet, if not all nodes get a place. */
export const NEWCOMER_PLACES = 0.25;

export interface PlanSettings {
  /** Number of steps of the fastest node. */
  readonly localSteps: number;
  readonly preset: Manifest['rounds']['preset'];
  /** Number of rows of one optimiser step. */
  readonly batchSize: number;
}

export interface RoundPlan {
  readonly preset: Preset;
  /**
   * The assignments, sorted by peer id. The first interval starts at 0, and each further interval starts
   * where the previous one ends.
   */
  readonly assignments: Assignment[];
}

/** Returns whether a node may get work. A round does not wait for nodes without work. */
export function isAssignable({ standing }: PresentPeer): boolean {
  return standing === 'good' || standing === 'probation';
}

/**
 * Assigns a round's work to the nodes with good standing or on probation. A node's steps are proportional to its
 * speed times its belief (see `stepsOf`), but at least a third of `localSteps`, and at most `localSteps`. The
 * interval of a node has steps × batchSize rows. If the intervals together have more rows than the data, they
 * continue in a second permutation of the rows, then in a third, and so on (see `epoch` in lora/data/permutation.ts).
 *
 * @param present nodes that are ready to train, by peer id
 * @param round number of the round. If more nodes are ready than a round can take, this number decides whose turn it is
 */
export function planRound(
  present: Readonly<Record<string, PresentPeer>>,
  round: number,
  settings: PlanSettings,
): RoundPlan {
  const assignable = Object.keys(present)
    .filter((peer) => isAssignable(present[peer]!))
    .sort();
  const isBelieved = (peer: string): boolean => !isNewcomer(present[peer]!) && beliefIn(present[peer]!) > 0;
  const peers = choose(assignable, { round, places: ROUND_PEERS, isBelieved });
  const steps = stepsOf(
    peers.map((peer) => present[peer]!),
    settings.localSteps,
  );
  let end = 0;
  const assignments = peers.map((peer, i) => {
    const start = end;
    end += steps[i]! * settings.batchSize;
    return { peer, start, end, steps: steps[i]! };
  });
  const { preset } = settings;
  const auto = peers.length < AUTO_SPARSE_PEERS ? 'dense' : 'balanced';
  return { preset: preset === 'auto' ? auto : preset, assignments };
}

/**
 * Chooses the peers that take part in a round. If not all of them get a place, the fraction NEWCOMER_PLACES of the
 * places is reserved for peers that are not believed yet. Believed peers get the other places, so a crowd of new
 * identities cannot displace them. Places that one group does not fill go to the other group. Within a group, peers
 * take turns, because each round starts at a different position of the sorted list.
 */
function choose(
  sorted: readonly string[],
  { round, places, isBelieved }: { round: number; places: number; isBelieved: (peer: string) => boolean },
): string[] {
  if (sorted.length <= places) return [...sorted];
  const believed = sorted.filter(isBelieved);
  const others = sorted.filter((peer) => !isBelieved(peer));
  const kept = Math.min(others.length, Math.floor(NEWCOMER_PLACES * places));
  const forBelieved = Math.min(believed.length, places - kept);
  const turn = (peers: readonly string[], most: number): string[] => {
    const first = peers.length === 0 ? 0 : (round * most) % peers.length;
    return Array.from({ length: most }, (_, i) => peers[(first + i) % peers.length]!);
  };
  return [...turn(believed, forBelieved), ...turn(others, places - forBelieved)].sort();
}

/**
 * Returns the steps of each node, in proportion to its counted speed times its counted belief. The node with the
 * largest product gets `localSteps`.
 *
 * The counted speed is capped as follows. Without a cap, a node that delivers without training would seem very fast,
 * and all other nodes would get few steps.
 * - A proven node counts at most SPEED_MEDIANS times as fast as the median node.
 * - Any other node counts at most as fast as the median node. An unmeasured node counts as fast as the median node.
 *
 * Medians are weighted by the belief that nodes have earned, so new identities cannot move them.
 *
 * The counted belief is 1 if the node's belief is at least FULL_BELIEF times the median belief. If it is lower, the
 * counted belief is proportionally lower than 1. A node without belief, or on probation, gets the minimum number of
 * steps (MIN_STEPS_SHARE). On probation, this minimum is at least MIN_STEPS, because an interval with fewer steps
 * is not audited. With fewer steps, a node that failed an audit would not be audited again while it is on probation.
 *
 * If none of the nodes has earned belief, for example because the job does not score updates, all nodes count as proven
 * and have a counted belief of 1.
 */
function stepsOf(peers: readonly PresentPeer[], localSteps: number): number[] {
  const earned = peers.map(({ shares }) => earnedBelief(shares));
  const isScored = earned.some((belief) => belief > 0);
  const weights = isScored ? earned : peers.map(() => 1);
  const medianSpeed = medianOfMeasured(peers, weights);
  const fullBelief = FULL_BELIEF * weightedMedian(peers.map(beliefIn), weights);
  const worths = peers.map((peer) => {
    const most = !isScored || isProven(peer) ? SPEED_MEDIANS * medianSpeed : medianSpeed;
    const speed = medianSpeed === 0 ? 1 : Math.min(peer.speed || medianSpeed, most);
    if (peer.standing === 'probation') return 0;
    return isScored && fullBelief > 0 ? speed * Math.min(1, beliefIn(peer) / fullBelief) : speed;
  });
  const largest = Math.max(0, ...worths);
  const least = Math.ceil(localSteps * MIN_STEPS_SHARE);
  return worths.map((worth, i) => {
    const share = largest > 0 ? worth / largest : 0;
    const isAudited = peers[i]!.standing === 'probation' && localSteps >= MIN_STEPS;
    const ownLeast = isAudited ? Math.max(least, MIN_STEPS) : least;
    return Math.min(localSteps, Math.max(ownLeast, Math.round(localSteps * share)));
  });
}

/** Returns the median of the measured speeds; 0 if none was measured. */
function medianOfMeasured(peers: readonly PresentPeer[], weights: readonly number[]): number {
  const measured = peers.flatMap(({ speed }, i) => (speed > 0 ? [{ speed, weight: weights[i]! }] : []));
  const isWeighted = measured.some(({ weight }) => weight > 0);
  return weightedMedian(
    measured.map(({ speed }) => speed),
    measured.map(({ weight }) => (isWeighted ? weight : 1)),
  );
}

/**
 * Returns whether a node is proven. A proven node is not a newcomer, has a belief above 0, and its newest
 * share is at least BELIEF_LINE.
 */
export function isProven(peer: PresentPeer): boolean {
  return !isNewcomer(peer) && peer.shares[0]! >= BELIEF_LINE && beliefIn(peer) > 0;
}

function isNewcomer({ shares }: PresentPeer): boolean {
  return shares.length < BELIEF_UPDATES;
}

function beliefIn({ shares }: PresentPeer): number {
  return beliefOf(shares);
}
