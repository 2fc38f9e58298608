import { formatDuration } from '../common/text.ts';
import type { HealthMark } from '../protocol/api/health.ts';
import type { Standing } from '../protocol/api/job-events.ts';
import { type HealthRule, inWords, markOf } from './health-marks.ts';

/** Seconds without progress after which a peer that should be working is yellow. Loading a model can take as long. */
export const SLOW_SECONDS = 60;
/** Seconds without progress after which a peer that should be working is red. */
export const STUCK_SECONDS = 300;
/**
 * The same time for a peer that joins. A node with several jobs may let a new job wait for 10 minutes before it loads the
 * base of the job.
 */
export const STUCK_JOINING_SECONDS = 900;
/**
 * Seconds after which a peer is yellow whose trainer works for another job. Long rounds of the other job can keep an
 * honest peer waiting for longer, so the peer does not become red. A trainer that is stuck is red in the other job.
 */
export const BUSY_SECONDS = 600;
/** Round-trip time in ms from which a peer is yellow: ten times that of a good connection between two continents. */
export const SLOW_RTT_MS = 2_000;

/** Facts about a peer that the rules need. */
export interface PeerFacts {
  /** Whether the job has ended. @default false */
  readonly isJobOver?: boolean;
  /** State in the newest heartbeat, or `left` or `lost`. */
  readonly state: string;
  /** Whether two processes use the peer's key at the same time. @default false */
  readonly isDuplicate?: boolean;
  /** Reason why the node takes no work for now; null if it takes work. */
  readonly hold: string | null;
  readonly standing: Standing;
  /**
   * Seconds since the peer's state, round, step or download last changed. A new round does not end the time for which a
   * peer is busy.
   */
  readonly stillSeconds: number;
  /** Seconds for which the open round has waited for the peer's update; null if the round does not wait for it. */
  readonly awaitedSeconds: number | null;
  readonly lastSeenSeconds: number;
  readonly rttMs: number | null;
  /** Reason why the coordinator or a merge refused the peer's newest update; null if neither refused it. */
  readonly refusal: string | null;
  /**
   * Reason why the peer's newest update was not merged, although neither the coordinator nor a merge refused it, for example
   * because the job was paused. @default null
   */
  readonly unmerged?: string | null;
}

const STUCK_NEXT =
  'read the log of the node with "lora-swarm logs" on its machine. If the node makes no progress, restart it: its work is stored';

const PEER_RULES: readonly HealthRule<PeerFacts>[] = [
  {
    level: 'grey',
    rule: 'banned, or left the job, or the job has ended',
    applies: ({ standing, isJobOver, state }) => {
      if (standing === 'banned') return 'banned';
      if (isJobOver) return 'the job has ended';
      return state === 'left' ? 'left the job' : null;
    },
  },
  {
    level: 'red',
    rule: 'lost: no heartbeat for 10 s',
    next: 'check whether its machine is on and has a network. "lora-swarm doctor" on the machine finds the cause',
    // A node with a wrong clock sends heartbeats, but they are refused.
    applies: ({ state, lastSeenSeconds, hold }) =>
      state === 'lost' && hold === null ? `no heartbeat for ${formatDuration(lastSeenSeconds)}` : null,
  },
  {
    level: 'red',
    rule: 'two processes use its key at the same time, for example after its home was copied',
    next: 'stop one of the two processes, and give it a new home',
    applies: ({ isDuplicate }) => (isDuplicate ? 'two processes use its key at the same time' : null),
  },
  {
    level: 'red',
    rule: 'suspended because of strikes',
    next: 'look at its strikes. If they are a mistake, pardon the peer',
    applies: ({ standing }) => (standing === 'suspended' ? 'suspended: it gets no work' : null),
  },
  {
    level: 'yellow',
    rule: 'takes no work for now, because of its machine or owner',
    next: 'if this lasts, ask its owner. "lora-swarm status" on the machine says what to change',
    applies: ({ hold }) => (hold === null ? null : `takes no work: ${hold}`),
  },
  {
    level: 'red',
    rule: `should work, but made no progress for ${STUCK_SECONDS / 60} minutes, or while joining for ${STUCK_JOINING_SECONDS / 60} minutes`,
    next: STUCK_NEXT,
    applies: (peer) =>
      withoutProgress(peer, peer.state === 'joining' ? STUCK_JOINING_SECONDS : STUCK_SECONDS),
  },
  {
    level: 'yellow',
    rule: `should work, but made no progress for ${SLOW_SECONDS} s`,
    next: STUCK_NEXT,
    applies: (peer) => withoutProgress(peer, SLOW_SECONDS),
  },
  {
    level: 'yellow',
    rule: `its trainer has worked for another job for ${BUSY_SECONDS / 60} minutes`,
    next: 'if this lasts, ask its owner to give this job more weight, or to take part in fewer jobs. If the trainer of the node is stuck, restart the node: its work is stored',
    applies: ({ state, stillSeconds }) =>
      state === 'busy' && stillSeconds >= BUSY_SECONDS
        ? `its trainer has worked for another job for ${formatDuration(stillSeconds)}`
        : null,
  },
  {
    level: 'yellow',
    rule: 'on probation because of strikes',
    next: 'look at its strikes. If they are a mistake, pardon the peer',
    applies: ({ standing }) => (standing === 'probation' ? 'on probation: it gets little work' : null),
  },
  {
    level: 'yellow',
    rule: 'the newest update was refused',
    next: 'look at its receipts. If its updates are refused again and again, check its machine',
    applies: ({ refusal }) => (refusal === null ? null : `its newest update was refused: ${refusal}`),
  },
  {
    level: 'yellow',
    rule: `round-trip time of ${SLOW_RTT_MS / 1000} s or more`,
    next: 'a faster network for the node, or the preset tiny for the job, makes its updates arrive earlier',
    applies: ({ rttMs }) =>
      rttMs !== null && rttMs >= SLOW_RTT_MS ? `slow connection: ${Math.round(rttMs)} ms` : null,
  },
  {
    level: 'green',
    rule: 'everything else',
    applies: ({ state, unmerged = null }) => {
      const ready = state === 'awaiting' ? 'ready for the next round' : state;
      const now = state === 'busy' ? 'its trainer works for another job' : ready;
      return unmerged === null ? now : `${now}; its newest update was not merged: ${unmerged}`;
    },
  },
];

/** All rules in words, in the order in which they are tried. */
export const PEER_RULES_IN_WORDS = PEER_RULES.map(inWords);

/** Returns the health of a peer. If several rules apply, the first one decides. */
export function peerHealth(peer: PeerFacts): HealthMark {
  return markOf(peer, PEER_RULES);
}

/**
 * Returns the reason if the peer should have made progress within the last `seconds`, but made none. A peer that awaits
 * the next round need not make progress, unless the open round waits for its update. A busy peer has its own rule.
 */
function withoutProgress({ state, stillSeconds, awaitedSeconds }: PeerFacts, seconds: number): string | null {
  if (state === 'busy') return null;
  const isAwaiting = state === 'awaiting';
  // A node may be idle before a round opens, so its time without progress begins at the opening of the round.
  const still = isAwaiting ? Math.min(stillSeconds, awaitedSeconds ?? 0) : stillSeconds;
  if (still < seconds) return null;
  const what = isAwaiting ? 'has work in the open round, but has not begun' : `${state} without progress`;
  return `${what} for ${formatDuration(still)}`;
}
