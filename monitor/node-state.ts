/**
 * The state of a node in words. The screen in the terminal, the lines of the log and the page use the same words. Each of
 * the three must sanitise texts from other machines, because this module does not.
 */
import { countOf, formatBytes, formatCount, formatDuration, percentDone } from '../common/text.ts';
import type { HoldReason } from '../protocol/holds.ts';
import type { Heartbeat } from '../protocol/messages.ts';

/** The `reason` of a node that has just started. */
export const NOT_YET_CONNECTED = 'not yet connected';

/** The pause of a whole node. */
interface Pause {
  readonly reason: HoldReason;
  readonly text: string;
  /** Time at which the pause ends, in milliseconds since 1970; null if the time is not known. */
  readonly until: number | null;
}

/** Facts about the work of a node for one job. */
export interface NodeFacts {
  readonly state: Heartbeat['state'];
  readonly reason: string;
  readonly hold: { readonly reason: HoldReason } | null;
  readonly retrySeconds: number | null;
  readonly round: number;
  readonly step: number;
  readonly steps: number;
  readonly tokensPerSecond: number;
  readonly done: boolean;
  /** Whether the node joins the coordinator's next job when this job has ended. */
  readonly followsJobs: boolean;
  /** Whether the node stops when all its jobs have ended. @default false */
  readonly stopsAfterJobs?: boolean;
  readonly job: { readonly name: string } | null;
  /** Name of the job, also before the node has joined it; null if it is not known. */
  readonly jobName: string | null;
  readonly coordinator: {
    readonly connected: boolean;
    readonly unreachable: {
      readonly reason: string;
      readonly failures: number;
      readonly retrySeconds: number;
    } | null;
  };
  readonly download: {
    readonly what: 'base' | 'data' | 'adapter';
    readonly bytes: number;
    readonly total: number;
  } | null;
}

/** The state of a node for one job. */
export interface NodeState {
  /** Text that says what the node does now. */
  readonly now: string;
  /** The problem that keeps the node from its work; null if there is none. */
  readonly problem: NodeProblem | null;
}

/** A problem that keeps a node from its work, in words. */
export interface NodeProblem {
  readonly text: string;
  /**
   * When the node tries again; null if it plans no attempt. This text changes every second, unlike `text`.
   */
  readonly next: string | null;
}

export interface DescribeOptions {
  readonly pause: Pause | null;
  /** The refusal with which the coordinator has shut the node out; null while the node is not shut out. */
  readonly shutOut: { readonly message: string } | null;
  /** Formats a time in milliseconds since 1970. */
  readonly date: (at: number) => string;
}

const DOWNLOADS = { base: 'the base model', data: 'data', adapter: 'the adapter' } as const;

/** Describes the state of a node for one job. */
export function describeNode(facts: NodeFacts, { pause, shutOut, date }: DescribeOptions): NodeState {
  if (shutOut !== null) return { now: `shut out: ${shutOut.message}`, problem: null };
  const paused = pausedText(facts, { pause, date });
  return { now: paused ?? nowText(facts), problem: problemOf(facts, paused !== null) };
}

/** Returns why the whole node is paused; null if it is not, or if the job waits for a change by the owner. */
export function pausedText(
  { hold }: Pick<NodeFacts, 'hold'>,
  { pause, date }: Pick<DescribeOptions, 'pause' | 'date'>,
): string | null {
  if (pause === null || hold?.reason !== pause.reason) return null;
  const end = pause.until === null ? '' : `, until ${date(pause.until)}`;
  return `paused${end}: ${pause.text}`;
}

export function problemText({ text, next }: NodeProblem): string {
  return next === null ? text : `${text}; ${next}`;
}

/** Names what a node downloads. */
export function downloadText(what: keyof typeof DOWNLOADS): string {
  return DOWNLOADS[what];
}

/** Returns what a node does after the end of its job. */
export function afterJobText({
  followsJobs,
  stopsAfterJobs = false,
}: Pick<NodeFacts, 'followsJobs' | 'stopsAfterJobs'>): string {
  if (stopsAfterJobs) return 'this node stops when all its jobs have ended';
  return followsJobs
    ? 'this node serves the files of the job to other peers, and waits for the next job of the coordinator'
    : 'this node now only serves the files of the job to other peers';
}

/** Describes how far the coordinator trusts the person who answers for the node. */
export function standingText({
  kind,
  untilRound,
  strikes,
}: {
  readonly kind: 'good' | 'probation' | 'suspended';
  readonly untilRound: number | null;
  readonly strikes: number;
}): string {
  const text = {
    good: 'good',
    probation: `on probation up to round ${untilRound}: the node gets the fewest steps`,
    suspended: `suspended up to round ${untilRound}: the node gets no work`,
  }[kind];
  if (kind === 'good' && strikes === 0) return text;
  return `${text}; ${countOf(strikes, 'strike')} (the receipts of its updates say why)`;
}

function nowText(facts: NodeFacts): string {
  const { download, job, round, reason } = facts;
  if (download !== null) {
    const { what, bytes, total } = download;
    return `fetching ${DOWNLOADS[what]}: ${percentDone(bytes, total)} of ${formatBytes(total)}`;
  }
  switch (facts.state) {
    case 'joining':
      if (job !== null) return `preparing the job ${job.name}`;
      if (facts.jobName !== null) return `joining the job ${facts.jobName}`;
      return facts.followsJobs ? 'joining the next open job of the coordinator' : 'joining the job';
    case 'syncing':
      return `fetching the adapter for round ${round}`;
    case 'busy':
      return `round ${round} waits: ${reason}`;
    case 'publishing':
      return `sending the update of round ${round}`;
    case 'awaiting':
      if (facts.done) return `the job has ended; ${afterJobText(facts)}`;
      return reason === '' || facts.hold !== null || facts.retrySeconds !== null
        ? 'waiting'
        : `waiting: ${reason}`;
    case 'leaving':
      return 'stopping';
    case 'training': {
      const { step, steps, tokensPerSecond } = facts;
      const speed = tokensPerSecond > 0 ? `, ${formatCount(tokensPerSecond)} tokens/s` : '';
      return `training round ${round}: step ${step} of ${steps}${speed}`;
    }
  }
}

/** Returns why the coordinator cannot be reached. Leaves out its peer id, so that the text fits into a line. */
function unreachableText(reason: string): string {
  const [, address, why] = /^could not connect to (\S+?)(?:\/p2p\/\w+)?: (.*)$/s.exec(reason) ?? [];
  return address === undefined
    ? `cannot reach the coordinator: ${reason}`
    : `cannot reach the coordinator at ${address}: ${why}`;
}

function problemOf(facts: NodeFacts, isPaused: boolean): NodeProblem | null {
  const { coordinator, state, reason, retrySeconds, hold } = facts;
  const { unreachable, connected } = coordinator;
  if (unreachable !== null) {
    const next = `attempt ${unreachable.failures + 1} in ${formatDuration(unreachable.retrySeconds)}`;
    return { text: unreachableText(unreachable.reason), next };
  }
  if (isPaused) return null;
  if (hold !== null) return { text: `cannot take part until you change this: ${reason}`, next: null };
  // `nowText` already says that the job waits for its turn of the trainer.
  if (state === 'busy') return null;
  const isWell = retrySeconds === null && (state !== 'joining' || reason === NOT_YET_CONNECTED);
  if (isWell || reason === '') {
    if (connected || state === 'joining') return null;
    return { text: 'the connection to the coordinator is lost', next: 'connecting again' };
  }
  const next = retrySeconds === null ? null : `next attempt in ${formatDuration(retrySeconds)}`;
  return { text: state === 'joining' && connected ? `cannot join yet: ${reason}` : reason, next };
}
