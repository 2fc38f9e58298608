/** The rules by which the page and the CLI call a peer or a job healthy. Each rule is a level and a reason in words. */
import { formatCount, formatDuration, phaseText } from '../common/text.ts';
import type { Standing } from './job-events.ts';

/**
 * `green`: the peer or job works. `yellow`: it works less well than it could. `red`: it needs its operator.
 * `grey`: it does nothing now, as planned.
 */
export type HealthLevel = 'green' | 'yellow' | 'red' | 'grey';

/** The level of a peer or job, and the rule that decided it. */
export interface HealthMark {
  readonly level: HealthLevel;
  readonly reason: string;
}

/** Seconds without progress after which a peer that should be working is yellow. Loading a model can take as long. */
export const SLOW_SECONDS = 60;
/** Seconds without progress after which a peer that should be working is red. */
export const STUCK_SECONDS = 300;
/** Round-trip time in ms from which a peer is yellow: ten times that of a good connection between two continents. */
export const SLOW_RTT_MS = 2_000;
/** A job is red after this number of consecutive rounds with too few updates. */
export const SHORT_ROUNDS = 3;
/** A job is yellow if its newest held-out loss exceeds its lowest held-out loss by more than this share. */
export const WORSE_SHARE = 0.01;

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
  /** Seconds since the peer's state, round, step or download last changed. */
  readonly stillSeconds: number;
  readonly lastSeenSeconds: number;
  readonly rttMs: number | null;
  /** Reason why the coordinator or a merge refused the peer's newest update; null if neither refused it. */
  readonly refusal: string | null;
}

/** Facts about a job that the rules read. */
export interface JobFacts {
  readonly phase: string;
  readonly rounds: number;
  readonly roundsDone: number;
  readonly reason: string;
  /** Whether the job paused itself, for example because the disk is full. False if its operator paused it. */
  readonly pausedItself: boolean;
  /** Number of rounds in a row that ended with too few updates. */
  readonly shortRounds: number;
  /** Number of rounds in a row whose merge the gate refused. */
  readonly refusals: number;
  readonly heldOutLoss: number | null;
  readonly lowestLoss: number | null;
}

/** States in which a peer waits for others. In all other states it should make progress. */
const WAITS = ['awaiting', 'leaving'];

/** Returns the health of a peer. If several rules apply, the first one decides. */
export function peerHealth(peer: PeerFacts): HealthMark {
  const { state, hold, standing, stillSeconds, rttMs, refusal } = peer;
  if (standing === 'banned') return { level: 'grey', reason: 'banned' };
  if (peer.isJobOver) return { level: 'grey', reason: 'the job has ended' };
  if (state === 'left') return { level: 'grey', reason: 'left the job by itself' };
  if (state === 'lost')
    return { level: 'red', reason: `no heartbeat for ${formatDuration(peer.lastSeenSeconds)}` };
  if (peer.isDuplicate) return { level: 'red', reason: 'two processes use its key at the same time' };
  if (standing === 'suspended') return { level: 'red', reason: 'suspended: it gets no work' };
  if (hold !== null) return { level: 'yellow', reason: `takes no work: ${hold}` };
  if (!WAITS.includes(state) && stillSeconds >= SLOW_SECONDS) {
    const level = stillSeconds >= STUCK_SECONDS ? 'red' : 'yellow';
    return { level, reason: `${state} without progress for ${formatDuration(stillSeconds)}` };
  }
  if (standing === 'probation') return { level: 'yellow', reason: 'on probation: it gets little work' };
  if (refusal !== null) return { level: 'yellow', reason: `its newest update was refused: ${refusal}` };
  if (rttMs !== null && rttMs >= SLOW_RTT_MS)
    return { level: 'yellow', reason: `slow connection: ${Math.round(rttMs)} ms` };
  return { level: 'green', reason: state === 'awaiting' ? 'ready for the next round' : state };
}

/** Returns the health of a job. If several rules apply, the first one decides. */
export function jobHealth(job: JobFacts): HealthMark {
  const { phase, shortRounds, refusals, heldOutLoss, lowestLoss } = job;
  if (phase === 'finished') return { level: 'grey', reason: phaseText(job) };
  if (phase === 'queued') return { level: 'grey', reason: job.reason };
  if (job.pausedItself) return { level: 'red', reason: `paused itself: ${job.reason}` };
  if (phase === 'paused') return { level: 'grey', reason: 'paused by the operator' };
  if (shortRounds > 0) {
    const level = shortRounds >= SHORT_ROUNDS ? 'red' : 'yellow';
    const rounds = shortRounds === 1 ? 'the newest round' : `${formatCount(shortRounds)} rounds in a row`;
    return { level, reason: `${rounds} ended with too few updates` };
  }
  if (refusals > 0) {
    const rounds = refusals === 1 ? 'the newest round' : `${formatCount(refusals)} rounds in a row`;
    return { level: 'yellow', reason: `no merge passed the gate in ${rounds}` };
  }
  if (phase === 'waiting') return { level: 'yellow', reason: job.reason || 'waiting for nodes' };
  if (heldOutLoss !== null && lowestLoss !== null && heldOutLoss > lowestLoss * (1 + WORSE_SHARE)) {
    const percent = (100 * (heldOutLoss / lowestLoss - 1)).toFixed(1);
    return { level: 'yellow', reason: `the held-out loss is ${percent} % above the lowest one of the job` };
  }
  // A running job has a reason only after a restart, while it waits for its nodes.
  return { level: 'green', reason: job.reason === '' ? phase : `${phase}: ${job.reason}` };
}

/** All rules in words, in the order in which they are tried, for help texts. */
export const HEALTH_RULES: Readonly<Record<'peer' | 'job', readonly HealthMark[]>> = {
  peer: [
    { level: 'grey', reason: 'banned, or left the job by itself, or the job has ended' },
    { level: 'red', reason: 'lost: no heartbeat for 10 s' },
    {
      level: 'red',
      reason: 'two processes use its key at the same time, for example after its home was copied',
    },
    { level: 'red', reason: 'suspended because of strikes' },
    { level: 'yellow', reason: 'takes no work for now, because of its machine or owner' },
    { level: 'red', reason: `should work, but made no progress for ${STUCK_SECONDS / 60} minutes` },
    { level: 'yellow', reason: `should work, but made no progress for ${SLOW_SECONDS} s` },
    { level: 'yellow', reason: 'on probation because of strikes' },
    { level: 'yellow', reason: 'the newest update was refused' },
    { level: 'yellow', reason: `round-trip time of ${SLOW_RTT_MS / 1000} s or more` },
    { level: 'green', reason: 'everything else' },
  ],
  job: [
    { level: 'grey', reason: 'finished, stopped by its operator, or queued until another job has ended' },
    { level: 'red', reason: 'paused itself because of a problem or a full disk' },
    { level: 'grey', reason: 'paused by the operator' },
    { level: 'red', reason: `${SHORT_ROUNDS} or more rounds in a row ended with too few updates` },
    { level: 'yellow', reason: 'the newest round ended with too few updates' },
    { level: 'yellow', reason: 'no merge passed the gate in the newest round' },
    { level: 'yellow', reason: 'waiting for nodes' },
    {
      level: 'yellow',
      reason: `held-out loss more than ${100 * WORSE_SHARE} % above the lowest one of the job`,
    },
    { level: 'green', reason: 'everything else' },
  ],
};
