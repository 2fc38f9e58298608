import { countOf } from '../../common/text.ts';
import { HEARTBEAT_INTERVAL_MS, PEER_LOST_AFTER_MS } from '../../protocol/limits.ts';
import { earnedBelief } from '../../verify/scores/belief.ts';
import { isProven, type PresentPeer } from './plan.ts';

/** An open or closed round and the progress of its nodes. Times are on the monotonic clock, in milliseconds. */
export interface Round {
  readonly number: number;
  readonly openedAt: number;
  /** Maximum duration of the round in milliseconds, counted from `openedAt`. Nodes read it in the head. */
  readonly deadlineMs: number;
  /** No timeout closes the round before this time, so that nodes can reconnect after a restart of the coordinator. */
  readonly notBefore: number;
  readonly assigned: readonly string[];
  readonly delivered: readonly string[];
  /** Assigned nodes that left or lost their work before they delivered an update. */
  readonly left: readonly string[];
  /**
   * Assigned nodes that took a hold before they delivered an update, which means that they take no work for now. Each
   * of these nodes counts as absent until the end of the round, even if its hold has ended. Otherwise, the node could
   * make the round wait repeatedly.
   */
  readonly held: readonly string[];
  /**
   * Assigned nodes that signed two different updates of this round, or were removed from the job. None of their updates
   * counts in this round.
   */
  readonly excluded: readonly string[];
  /**
   * Time at which the last awaited node became absent; null while an awaited node is present. An assigned node is
   * awaited until it delivers, leaves, takes a hold or is excluded.
   */
  readonly abandonedAt: number | null;
}

/** The time from the opening of a round to the arrival of one of its updates. */
export interface Arrival {
  readonly peer: string;
  readonly round: number;
  readonly ms: number;
}

/** Facts that decide how long a round lasts. */
export interface Timing {
  /** Peers that are ready to train, by peer id. */
  readonly present: Readonly<Record<string, PresentPeer>>;
  readonly arrivals: readonly Arrival[];
}

export interface ClosingSettings {
  readonly minPeers: number;
  readonly quorum: number;
  readonly maxSeconds: number;
}

/**
 * The patience of a round (see PATIENCE_FACTOR) is computed from the arrivals of updates in this many earlier
 * rounds. Nodes come, go and change speed, so rounds before these predict little.
 */
export const ARRIVAL_ROUNDS = 3;
/**
 * The patience as a multiple of the 75th percentile of measured arrivals. The patience is the time that a round waits
 * for all assigned nodes. After that time, a quorum of updates is enough to close the round.
 */
export const PATIENCE_FACTOR = 1.2;
/** Maximum duration of a round as a multiple of its patience (see PATIENCE_FACTOR). */
export const DEADLINE_FACTOR = 2;
/**
 * The patience of a job's first round (see PATIENCE_FACTOR), as a multiple of the 75th percentile of the arrivals. No
 * earlier round was measured, so the arrivals of the first round itself are used. The factor is 3, because all nodes
 * get the same number of steps in the first round, and a node with a third of the fastest node's speed needs three
 * times as long. In later rounds, such a node gets a third of the steps (MIN_STEPS_SHARE).
 */
export const FIRST_ROUND_FACTOR = 3;
/**
 * Minimum patience: the time between two heartbeats. With less patience, rounds of a second or two would close without
 * nodes whose updates the network delayed by chance.
 */
export const MIN_PATIENCE_MS = HEARTBEAT_INTERVAL_MS;
/** Time that a round waits for a node to come back after all awaited nodes have fallen silent. */
export const ABANDONED_MS = 3 * PEER_LOST_AFTER_MS;
/** Time for nodes to reconnect and deliver their updates after a restart of the coordinator, in milliseconds. */
export const RECOVERY_MS = 15_000;

export type Verdict =
  | { verdict: 'close'; cause: 'complete' | 'quorum' | 'deadline' }
  /** The round becomes a null round, because it has too few updates and does not wait any longer. */
  | { verdict: 'null'; reason: string }
  /** The round stays open. It is judged again at `at`, or at the next event. */
  | { verdict: 'wait'; at: number; abandonedAt: number | null };

/**
 * Returns the maximum duration of a round that opens now: twice the patience (see PATIENCE_FACTOR), but at most
 * `maxSeconds`. If no update of an earlier round has arrived, the maximum is `maxSeconds`.
 *
 * The maximum doubles with each round in a row that ended with too few updates, because all nodes may have become
 * slower, for example while their owners use the machines. Without the doubling, these nodes would lose their work in
 * every round, and no new arrival would correct the measured times.
 */
export function deadlineMs(
  number: number,
  { present, arrivals }: Timing,
  settings: ClosingSettings,
  shortRounds: number,
): number {
  const most = settings.maxSeconds * 1000;
  const measured = percentile75(counting(arrivals, present).filter(({ round }) => round < number));
  if (measured === null) return most;
  const patience = Math.max(MIN_PATIENCE_MS, PATIENCE_FACTOR * measured);
  return Math.min(most, DEADLINE_FACTOR * patience * 2 ** shortRounds);
}

/** Returns the latest time at which a round ends, on the monotonic clock. */
export function deadlineOf({ openedAt, deadlineMs, notBefore }: Round): number {
  return Math.max(openedAt + deadlineMs, notBefore);
}

/**
 * Returns the patience of a round (see PATIENCE_FACTOR) in milliseconds; null if `arrivals` contains no arrival of an
 * update.
 */
export function patienceMs(number: number, { present, arrivals }: Timing): number | null {
  const counted = counting(arrivals, present);
  const measured = percentile75(counted.filter(({ round }) => round < number));
  if (measured !== null) return Math.max(MIN_PATIENCE_MS, PATIENCE_FACTOR * measured);
  const own = percentile75(counted);
  return own === null ? null : Math.max(MIN_PATIENCE_MS, FIRST_ROUND_FACTOR * own);
}

/**
 * Decides whether a round closes now. It closes at the earliest of these:
 * - no awaited node (see `Round.abandonedAt`) is present, and there are at least minPeers updates;
 * - a quorum has delivered (see `hasQuorum`), and the time that the round waits for all nodes is over (`patienceMs`);
 * - the deadline has passed.
 *
 * With fewer than minPeers updates, the round becomes a null round at the deadline. The round becomes a null round
 * earlier if every node that has not delivered has left or is excluded, or if no awaited node has been present for
 * ABANDONED_MS.
 */
export function judgeRound(round: Round, timing: Timing, settings: ClosingSettings, now: number): Verdict {
  const { present } = timing;
  const { minPeers, quorum } = settings;
  const count = round.delivered.length;
  const possible = undelivered(round);
  const awaited = possible.some((peer) => Object.hasOwn(present, peer) && !round.held.includes(peer));
  const enough = count >= minPeers;
  if (!awaited && enough) return { verdict: 'close', cause: 'complete' };
  if (possible.length === 0) {
    const missing = countOf(round.assigned.length - count, 'node');
    return { verdict: 'null', reason: tooFew(count, minPeers, `${missing} left or could not deliver`) };
  }

  const deadline = deadlineOf(round);
  if (now >= deadline) {
    if (enough) return { verdict: 'close', cause: 'deadline' };
    return { verdict: 'null', reason: tooFew(count, minPeers, 'the deadline has passed') };
  }
  let at = deadline;
  const patience = patienceMs(round.number, timing);
  if (enough && patience !== null && hasQuorum(round, present, quorum)) {
    const patient = Math.max(round.openedAt + patience, round.notBefore);
    if (now >= patient) return { verdict: 'close', cause: 'quorum' };
    at = Math.min(at, patient);
  }
  const abandonedAt = awaited ? null : (round.abandonedAt ?? now);
  if (abandonedAt !== null) {
    if (now >= abandonedAt + ABANDONED_MS) {
      const missing = countOf(possible.length, 'node');
      return {
        verdict: 'null',
        reason: tooFew(count, minPeers, `${missing} fell silent or took no more work`),
      };
    }
    at = Math.min(at, abandonedAt + ABANDONED_MS);
  }
  return { verdict: 'wait', at, abandonedAt };
}

/** Returns the assigned nodes whose updates may still arrive. A node that has fallen silent or takes a hold is one of them. */
export function undelivered({ assigned, delivered, left, excluded }: Round): string[] {
  const done = new Set([...delivered, ...left, ...excluded]);
  return assigned.filter((peer) => !done.has(peer));
}

function tooFew(count: number, least: number, because: string): string {
  return `${countOf(count, 'update')} arrived (at least ${least} needed), and ${because}`;
}

/**
 * Returns whether enough nodes have delivered: the sum of their earned beliefs must be at least `quorum` times the sum
 * over all assigned nodes. New identities have no earned belief, so a crowd of them that never delivers cannot delay a
 * round until its deadline. If no assigned node that is present has earned belief, all assigned nodes count equally.
 */
function hasQuorum({ assigned, delivered }: Round, present: Timing['present'], quorum: number): boolean {
  const earnedBy = (peer: string): number =>
    Object.hasOwn(present, peer) ? earnedBelief(present[peer]!.shares) : 0;
  const isEarned = assigned.some((peer) => earnedBy(peer) > 0);
  const total = (peers: readonly string[]): number =>
    peers.reduce((sum, peer) => sum + (isEarned ? earnedBy(peer) : 1), 0);
  // The factor 1 − 1e-9 allows for rounding errors of the sums.
  return total(delivered) >= quorum * total(assigned) * (1 - 1e-9);
}

/**
 * Returns the arrivals of proven nodes. If there are none, returns all arrivals. If the arrivals of other nodes always
 * counted, a crowd of new identities that deliver without training would end each round before honest nodes can
 * deliver.
 */
function counting(arrivals: readonly Arrival[], present: Timing['present']): readonly Arrival[] {
  const proven = arrivals.filter(({ peer }) => Object.hasOwn(present, peer) && isProven(present[peer]!));
  return proven.length > 0 ? proven : arrivals;
}

/** Returns the 75th percentile of the arrival times by nearest rank; null if there are no arrivals. */
function percentile75(arrivals: readonly Arrival[]): number | null {
  if (arrivals.length === 0) return null;
  const sorted = arrivals.map(({ ms }) => ms).sort((a, b) => a - b);
  return sorted[Math.ceil(0.75 * sorted.length) - 1]!;
}
