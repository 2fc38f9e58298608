import { HEARTBEAT_INTERVAL_MS, PEER_LOST_AFTER_MS } from '../../protocol/limits.ts';

/** A round that has been opened: who works on it and who is done. */
export interface Round {
  readonly number: number;
  /** This and the other moments are on the monotonic clock. */
  readonly openedAt: number;
  /** Longest duration, from `openedAt`; announced with the head. */
  readonly deadlineMs: number;
  /** No closing for lack of time before this moment: after a restart nodes need time to come back. */
  readonly notBefore: number;
  readonly assigned: readonly string[];
  readonly delivered: readonly string[];
  /** Assigned nodes that said goodbye, or lost their work, before they delivered. */
  readonly left: readonly string[];
  /** Since when nobody who could still deliver has been present; null while somebody is. */
  readonly abandonedAt: number | null;
}

/** How long a node took to deliver, from the opening of its round to the arrival of its update. */
export interface Arrival {
  readonly round: number;
  readonly ms: number;
}

export interface ClosingSettings {
  readonly minPeers: number;
  readonly quorum: number;
  readonly maxSeconds: number;
}

/** Rounds whose arrivals predict the next: nodes come, go and change speed. */
export const ARRIVAL_ROUNDS = 3;
/** Patience in units of the 75th percentile of measured arrivals (research/algorithms.md section 6). */
export const PATIENCE_FACTOR = 1.2;
/** Longest wait in units of the patience. */
export const DEADLINE_FACTOR = 2;
/**
 * Patience of a round before any has been measured, in units of its own arrivals: all nodes got the same steps, and the
 * slowest node that the plan provides for is three times slower than the fastest.
 */
export const FIRST_ROUND_FACTOR = 3;
/** Rounds of a second or two: less patience than one missed heartbeat would punish jitter. */
export const LEAST_PATIENCE_MS = HEARTBEAT_INTERVAL_MS;
/** How long a round that everybody has fallen silent in waits for one of them to come back. */
export const ABANDONED_MS = 3 * PEER_LOST_AFTER_MS;
/** Time for nodes to reconnect and deliver after the coordinator was away. */
export const RECOVERY_MS = 15_000;

export type Verdict =
  | { verdict: 'close'; cause: 'complete' | 'quorum' | 'deadline' }
  /** Too few updates, and no more will come. */
  | { verdict: 'null'; reason: string }
  /** Look again at `at`, or when something happens. */
  | { verdict: 'wait'; at: number; abandonedAt: number | null };

/**
 * Longest duration that a round gets when it opens: twice the patience, or `maxSeconds` before any was measured. It doubles
 * with each short round in a row: when all nodes have become slower (their owners use the machines), the measured times
 * mislead, and a node gives up its work when the next round opens.
 */
export function deadlineMs(
  number: number,
  arrivals: readonly Arrival[],
  settings: ClosingSettings,
  shortRounds: number,
): number {
  const most = settings.maxSeconds * 1000;
  const measured = percentile75(arrivals.filter(({ round }) => round < number));
  if (measured === null) return most;
  const patience = Math.max(LEAST_PATIENCE_MS, PATIENCE_FACTOR * measured);
  return Math.min(most, DEADLINE_FACTOR * patience * 2 ** shortRounds);
}

/** From when a quorum is enough; null while nothing has been measured. */
export function patienceMs(number: number, arrivals: readonly Arrival[]): number | null {
  const measured = percentile75(arrivals.filter(({ round }) => round < number));
  if (measured !== null) return Math.max(LEAST_PATIENCE_MS, PATIENCE_FACTOR * measured);
  const own = percentile75(arrivals);
  return own === null ? null : Math.max(LEAST_PATIENCE_MS, FIRST_ROUND_FACTOR * own);
}

/**
 * Whether a round closes now. The earliest of:
 * everybody assigned has delivered, left or fallen silent (with ≥ minPeers updates);
 * a quorum has delivered and patience is over; the deadline (with fewer than minPeers updates: a null round).
 */
export function judgeRound(
  round: Round,
  present: Readonly<Record<string, number>>,
  arrivals: readonly Arrival[],
  settings: ClosingSettings,
  now: number,
): Verdict {
  const { minPeers, quorum } = settings;
  const count = round.delivered.length;
  const possible = round.assigned.filter(
    (peer) => !round.delivered.includes(peer) && !round.left.includes(peer),
  );
  const awaited = possible.some((peer) => Object.hasOwn(present, peer));
  const enough = count >= minPeers;
  if (!awaited && enough) return { verdict: 'close', cause: 'complete' };
  if (possible.length === 0)
    return { verdict: 'null', reason: tooFew(count, minPeers, 'everybody else left') };

  const deadline = Math.max(round.openedAt + round.deadlineMs, round.notBefore);
  if (now >= deadline) {
    if (enough) return { verdict: 'close', cause: 'deadline' };
    return { verdict: 'null', reason: tooFew(count, minPeers, 'the deadline has passed') };
  }
  let at = deadline;
  const patience = patienceMs(round.number, arrivals);
  if (count >= Math.max(minPeers, Math.ceil(quorum * round.assigned.length)) && patience !== null) {
    const patient = Math.max(round.openedAt + patience, round.notBefore);
    if (now >= patient) return { verdict: 'close', cause: 'quorum' };
    at = Math.min(at, patient);
  }
  const abandonedAt = awaited ? null : (round.abandonedAt ?? now);
  if (abandonedAt !== null) {
    if (now >= abandonedAt + ABANDONED_MS) {
      return { verdict: 'null', reason: tooFew(count, minPeers, 'everybody else fell silent') };
    }
    at = Math.min(at, abandonedAt + ABANDONED_MS);
  }
  return { verdict: 'wait', at, abandonedAt };
}

function tooFew(count: number, least: number, because: string): string {
  return `${count} of at least ${least} updates arrived, and ${because}`;
}

/** Nearest-rank percentile: the smallest arrival that at least 75 % do not exceed. */
function percentile75(arrivals: readonly Arrival[]): number | null {
  if (arrivals.length === 0) return null;
  const sorted = arrivals.map(({ ms }) => ms).sort((a, b) => a - b);
  return sorted[Math.ceil(0.75 * sorted.length) - 1]!;
}
