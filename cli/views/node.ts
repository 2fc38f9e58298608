import {
  formatBytes,
  formatCount,
  formatDuration,
  formatLoss,
  percentDone,
  phaseText,
  roundText,
  safeText,
} from '../../common/text.ts';
import type { NodeJobStatus, NodeStatus, NodeUpdate } from '../../index.ts';
import { clockJumpText } from '../../monitor/clock-jumps.ts';
import {
  describeNode,
  type NodeFacts,
  type NodeState,
  pausedText,
  problemText,
  standingText,
} from '../../monitor/node-state.ts';
import {
  costText,
  monthText,
  outcomeText,
  placeTexts,
  settingsText,
  totalsText,
} from '../../monitor/node-work.ts';
import type { KnownJob } from '../../node/store/known-jobs.ts';
import { withCommandName, withHome } from '../command-name.ts';
import type { WeightedTarget } from '../options/target.ts';
import { dateAndTime } from '../print.ts';
import { DownloadPace } from './download-pace.ts';
import { reachLines } from './reach.ts';

/** Number of newest updates that the status of a node shows. */
const SHOWN_UPDATES = 5;
/**
 * Maximum length of a reason or a note about the engine. The note may contain an error of the engine's driver and a
 * path, so it may be longer than other texts.
 */
export const NOTE = { maxCharacters: 600 };

/**
 * Returns the status of a node as lines that fit on one screen.
 * @param flag the result of `homeFlag` (see thanks.ts) for the node
 */
export function nodeLines(status: NodeStatus, url: string, flag = ''): string[] {
  const { traffic } = status;
  const engine = status.engine === '' ? [] : [`engine      ${engineText(status)}`];
  const jobs = perJob(status);
  const [only] = jobs;
  return [
    `node        ${status.name}  ${status.peerId}  v${status.version}  up ${formatDuration(status.uptimeSeconds)}`,
    ...reachLines(status.reach),
    `api         ${url}`,
    ...(jobs.length === 1 ? contactLines(only!) : []),
    ...engine,
    ...(jobs.length === 1 ? stateLines(only!, flag) : []),
    ...(status.draining ? [`draining    ${DRAINING}`] : []),
    ...totalsText(status).map((text, i) => `${i === 0 ? 'contributed' : 'in all     '} ${text}`),
    ...(jobs.length === 1 ? placeLines(only!) : []),
    `costs       ${costText(status)}`,
    ...clockTexts(status).map((text) => `clock       ${text}`),
    `traffic     sent ${formatBytes(traffic.sent)}, received ${formatBytes(traffic.received)}; ${monthText(status)}`,
    ...(jobs.length === 1
      ? updateLines(only!)
      : jobs.flatMap((job, i) => sharedJobLines(job, i, status, flag))),
  ];
}

/** Text for a node that stops soon because of an order. */
export const DRAINING = 'it takes no new work, and stops after its present round';

/** The status of a node, with an option of the command that runs it. */
export type ShownStatus = NodeStatus & Pick<NodeFacts, 'stopsAfterJobs'>;

/** The status of a node for one of its jobs. */
export type NodeForJob = ShownStatus & NodeJobStatus;

/**
 * Splits the status of a node into one status for each of its jobs. Each contains only the updates of its job, because
 * a node may have updates of earlier jobs too.
 */
export function perJob(status: ShownStatus): NodeForJob[] {
  const updatesOf = (job: NodeStatus['job']): NodeUpdate[] =>
    status.updates.filter((update) => update.job === job?.job);
  if (status.jobs.length < 2) {
    const { weight = 1, trainerSeconds = 0, shutOut = null } = status.jobs[0] ?? {};
    return [{ ...status, weight, trainerSeconds, shutOut, updates: updatesOf(status.job) }];
  }
  return status.jobs.map((one) => ({ ...status, ...one, updates: updatesOf(one.job) }));
}

/** Returns the lines of one of several jobs, which share the trainer of the node. */
function sharedJobLines(job: NodeForJob, index: number, { jobs }: NodeStatus, flag: string): string[] {
  const { weight, trainerSeconds } = jobs[index]!;
  const total = jobs.reduce((sum, one) => sum + one.trainerSeconds, 0);
  const used = total > 0 ? `, ${percentDone(trainerSeconds, total)} of the trainer's time so far` : '';
  return [
    '',
    ...contactLines(job),
    `share       weight ${weight}${used}`,
    ...stateLines(job, flag),
    ...placeLines(job),
    ...updateLines(job),
  ];
}

function placeLines({ job, totals }: NodeStatus): string[] {
  return placeTexts(job, totals).map((text) => `place       ${text}`);
}

function contactLines(status: NodeStatus): string[] {
  const { job, coordinator } = status;
  return [
    `coordinator ${coordinator.peer ?? coordinator.addresses[0] ?? 'none'}${coordinator.connected ? '' : '  not connected'}`,
    ...(job === null ? [] : jobLines(status, job)),
  ];
}

function stateLines(status: NodeForJob, flag: string): string[] {
  const { now, problem } = stateOf(status, flag);
  const { standing } = status;
  const shows = standing !== null && (standing.kind !== 'good' || standing.strikes > 0);
  return [
    `state       ${safeText(now, NOTE)}`,
    ...(problem === null ? [] : [`waiting     ${safeText(problemText(problem), NOTE)}`]),
    ...missedTexts(status).map((text) => `missed      ${text}`),
    ...(shows ? [`standing    ${standingText(standing)}`] : []),
  ];
}

/**
 * Returns the state of a node for one of its jobs in words.
 * @param homeFlag the result of `homeFlag` (see thanks.ts) for the node
 */
export function stateOf({ pause, shutOut, ...facts }: NodeForJob, homeFlag = ''): NodeState {
  return describeNode(facts, { pause: shownPause(pause, homeFlag), shutOut, date: dateAndTime });
}

/** Returns a pause whose text names commands as the user of this program types them. */
export function shownPause(pause: NodeStatus['pause'], homeFlag = ''): NodeStatus['pause'] {
  return pause && { ...pause, text: withHome(pause.text, homeFlag) };
}

function updateLines({ updates, job }: NodeStatus): string[] {
  return updates.slice(0, SHOWN_UPDATES).map((update) => {
    const isJobOver = job !== null && job.job === update.job && isOver(job);
    return `update      ${updateLine(update, { isJobOver })}`;
  });
}

/**
 * Returns the lines about the targets of a node: each coordinator once, and before it the names of its jobs whose invites
 * come from the home of the node.
 */
export function targetLines(targets: readonly (WeightedTarget | KnownJob)[]): string[] {
  const byCoordinator = Map.groupBy(
    targets,
    ({ addresses, weight }) => `coordinator ${addresses[0]}${weight === 1 ? '' : `  weight ${weight}`}`,
  );
  return [...byCoordinator].flatMap(([line, own]) => [...own.flatMap(rejoinLines), line]);
}

function rejoinLines(target: WeightedTarget | KnownJob): string[] {
  if (!('name' in target) || target.name === null) return [];
  const next = target.job === null ? ', or the next job of its coordinator,' : ',';
  return [`rejoins     ${target.name}${next} with the invite that this home keeps`];
}

/** Returns a text about a missed round; no text if the node has made an update since then. */
export function missedTexts({ missedRound, updates }: NodeForJob): string[] {
  // A node of an older version does not tell the round.
  if ((missedRound ?? null) === null || updates.some(({ round }) => round > missedRound!)) return [];
  return [`round ${missedRound} ended before this node had finished it`];
}

/** Returns a line about a recent jump of the machine's clock; no line without a jump. */
export function clockTexts({ clockJump }: NodeStatus): string[] {
  return clockJump === null ? [] : [`! ${clockJumpText(clockJump)}`];
}

export function engineText({ engine, engineNote }: Pick<NodeStatus, 'engine' | 'engineNote'>): string {
  return engineNote === null ? engine : `${engine}: ${safeText(withCommandName(engineNote), NOTE)}`;
}

/** Returns the phase of a job. If the job was stopped before its last round, the text says so. */
export function phaseOf({ phase, ...job }: NonNullable<NodeStatus['job']>): string {
  if (phase === null) return 'not yet known';
  return phaseText({ ...job, phase }) === 'stopped' ? 'stopped early' : phase;
}

/** Returns a colon and the coordinator's reason for the phase of a job; an empty string if there is no reason. */
export function because({ reason }: NonNullable<NodeStatus['job']>): string {
  return reason === '' ? '' : `: ${safeText(reason, NOTE)}`;
}

function jobLines({ round }: NodeStatus, job: NonNullable<NodeStatus['job']>): string[] {
  const loss = job.checkpoint === null ? '' : `  held-out loss ${formatLoss(job.checkpoint.heldOutLoss)}`;
  return [
    `job         ${job.name}  ${job.job.slice(0, 12)}  ${job.phase === null ? `${job.rounds} rounds in all` : roundText(round, job)}  ${phaseOf(job)}${because(job)}${loss}`,
    `base        ${safeText(job.base.name)}  ${formatCount(job.base.parameters)} parameters, adapter ${formatCount(job.adapterParameters)}`,
    ...(job.newestChange ? [`changed     ${safeText(settingsText(job.newestChange), NOTE)}`] : []),
  ];
}

/** Returns whether a job has ended. */
export function isOver({ phase }: Pick<NonNullable<NodeStatus['job']>, 'phase'>): boolean {
  return phase === 'finished' || phase === 'failed';
}

/** Returns a line about one update and its outcome. The line explains the outcome unless the update was accepted. */
export function updateLine(update: NodeUpdate, options: { isJobOver?: boolean } = {}): string {
  const { state, why } = outcomeText({ ...update, detail: safeText(update.detail) }, options);
  const head = `round ${update.round}  ${formatBytes(update.bytes)}  ${state}`;
  return why === '' ? head : `${head}: ${why}`;
}

/** Makes the progress line of a node. The line of a download has its speed and the time left. */
export class NodeProgress {
  #download: { what: string; pace: DownloadPace } | null = null;

  /**
   * @param now current time in milliseconds
   * @returns a line about the first job that downloads, or else about the job that trains; null when nothing is in progress,
   *   or the node is paused
   */
  line(status: NodeStatus, now: number): string | null {
    const jobs = perJob(status);
    const job =
      jobs.find(({ download }) => download !== null) ?? jobs.find(({ state }) => state === 'training');
    const line = this.#lineOf(job ?? jobs[0]!, now);
    return line !== null && jobs.length > 1 ? `${labelOf(job!)}${line}` : line;
  }

  #lineOf(status: NodeForJob, now: number): string | null {
    const { download, pause } = status;
    if (pausedText(status, { pause, date: dateAndTime }) !== null) {
      // The length of the pause must not lower the speed that is measured after it.
      this.#download = null;
      return null;
    }
    if (download === null) {
      this.#download = null;
      return status.state === 'training' ? stateOf(status).now : null;
    }
    if (this.#download?.what !== download.what) {
      this.#download = { what: download.what, pace: new DownloadPace() };
    }
    const estimate = this.#download.pace.next(download, now);
    const text = stateOf(status).now;
    if (estimate === null) return text;
    const { bytesPerSecond, secondsLeft } = estimate;
    return `${text}, ${formatBytes(bytesPerSecond)}/s, ${formatDuration(secondsLeft)} left`;
  }
}

/** Names the job at the beginning of a line, for a node with several jobs. */
export function labelOf({ jobName, coordinator }: NodeStatus): string {
  const name = jobName ?? (coordinator.peer ?? coordinator.addresses[0])?.slice(-8);
  return `${name ?? 'no coordinator'}: `;
}
