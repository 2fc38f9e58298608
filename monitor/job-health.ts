import { formatCount, formatDuration, pauseText, phaseText } from '../common/text.ts';
import type { HealthMark } from '../protocol/api/health.ts';
import { type HealthRule, inWords, markOf } from './health-marks.ts';

/** A job is red after this number of consecutive rounds with too few updates. */
export const SHORT_ROUNDS = 3;
/** A job is yellow if its newest held-out loss exceeds its lowest held-out loss by more than this share. */
export const WORSE_SHARE = 0.01;
/** A job is yellow after it has scored, merged or evaluated a closed round for this number of seconds. Most rounds take less. */
export const SLOW_MERGE_SECONDS = 300;
/** After this number of seconds, the job is red instead. The coordinator aborts a single evaluation after the same time. */
export const STUCK_MERGE_SECONDS = 900;
/** A job is red if the timer of its round is late by more than this number of seconds. */
export const LATE_TIMER_SECONDS = 30;

/** Facts about a job that the rules read. */
export interface JobFacts {
  readonly phase: string;
  /** Seconds for which the job has been merging its closed round; 0 if no round is closed. */
  readonly mergeSeconds: number;
  /** Number of seconds by which the timer of the job's round is late; 0 if it is not due. */
  readonly lateSeconds: number;
  /** The round in progress; for a paused job, the first round that has not ended. */
  readonly round: number;
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

const MERGE_NEXT =
  'this is normal with a large base or much held-out data. If a file is missing, connect a node that has it. If neither is true, read the log with "lora-swarm logs" on the machine of the coordinator';
const SHORT_NEXT = 'see under "Peers" why nodes do not deliver, or invite more nodes';

const JOB_RULES: readonly HealthRule<JobFacts>[] = [
  {
    level: 'grey',
    rule: 'finished, stopped by its operator, or queued until another job has ended',
    applies: (job) => {
      if (job.phase === 'finished') return withReason(phaseText(job), job);
      return job.phase === 'queued' ? job.reason : null;
    },
  },
  {
    level: 'red',
    rule: 'paused itself because of a problem or a full disk',
    next: 'remove the cause, and then resume the job. After a full disk, the job continues automatically when there is space',
    applies: ({ pausedItself, reason }) => (pausedItself ? `paused itself: ${reason}` : null),
  },
  {
    level: 'grey',
    rule: 'paused by the operator',
    applies: (job) => (job.phase === 'paused' ? withReason(pauseText(job.round, 'the operator'), job) : null),
  },
  {
    level: 'red',
    rule: `the timer of its round is more than ${LATE_TIMER_SECONDS} s late`,
    next: 'restart the coordinator. The job continues with the same round',
    applies: ({ lateSeconds }) =>
      lateSeconds > LATE_TIMER_SECONDS
        ? `the timer of its round is ${formatDuration(lateSeconds)} late`
        : null,
  },
  {
    level: 'red',
    rule: `has been merging or evaluating the closed round for ${STUCK_MERGE_SECONDS / 60} minutes`,
    next: MERGE_NEXT,
    applies: (job) => slowMerge(job, STUCK_MERGE_SECONDS),
  },
  {
    level: 'yellow',
    rule: `has been merging or evaluating the closed round for ${SLOW_MERGE_SECONDS / 60} minutes`,
    next: MERGE_NEXT,
    applies: (job) => slowMerge(job, SLOW_MERGE_SECONDS),
  },
  {
    level: 'red',
    rule: `${SHORT_ROUNDS} or more rounds in a row ended with too few updates`,
    next: SHORT_NEXT,
    applies: (job) => tooFewUpdates(job, SHORT_ROUNDS),
  },
  {
    level: 'yellow',
    rule: 'the newest round ended with too few updates',
    next: SHORT_NEXT,
    applies: (job) => tooFewUpdates(job, 1),
  },
  {
    level: 'yellow',
    rule: 'no merge passed the gate in the newest round',
    next: 'if this continues, lower the learning rate or look for bad data. The job pauses itself after a few such rounds',
    applies: ({ refusals }) => (refusals > 0 ? `no merge passed the gate in ${inARow(refusals)}` : null),
  },
  {
    level: 'yellow',
    rule: 'waiting for nodes',
    next: 'start nodes with the invite of the job',
    applies: ({ phase, reason }) => (phase === 'waiting' ? reason || 'waiting for nodes' : null),
  },
  {
    level: 'yellow',
    rule: `held-out loss more than ${100 * WORSE_SHARE} % above the lowest one of the job`,
    next: 'if the loss continues to rise, roll back to the best checkpoint or lower the learning rate',
    applies: ({ heldOutLoss, lowestLoss }) => {
      if (heldOutLoss === null || lowestLoss === null) return null;
      if (heldOutLoss <= lowestLoss * (1 + WORSE_SHARE)) return null;
      const percent = (100 * (heldOutLoss / lowestLoss - 1)).toFixed(1);
      return `the held-out loss is ${percent} % above the lowest one of the job`;
    },
  },
  {
    level: 'green',
    rule: 'everything else',
    // A running job has a reason only after a restart, while it waits for its nodes.
    applies: (job) => withReason(job.phase, job),
  },
];

/** All rules in words, in the order in which they are tried. */
export const JOB_RULES_IN_WORDS = JOB_RULES.map(inWords);

/** Returns the health of a job. If several rules apply, the first one decides. */
export function jobHealth(job: JobFacts): HealthMark {
  return markOf(job, JOB_RULES);
}

function withReason(text: string, { reason }: JobFacts): string {
  return reason === '' ? text : `${text}: ${reason}`;
}

function slowMerge(job: JobFacts, seconds: number): string | null {
  const { phase, mergeSeconds } = job;
  return mergeSeconds >= seconds ? withReason(`${phase} for ${formatDuration(mergeSeconds)}`, job) : null;
}

function tooFewUpdates({ shortRounds }: JobFacts, rounds: number): string | null {
  if (shortRounds < rounds) return null;
  return `${inARow(shortRounds)} ended with too few updates`;
}

function inARow(rounds: number): string {
  return rounds === 1 ? 'the newest round' : `${formatCount(rounds)} rounds in a row`;
}
