import {
  countOf,
  formatCount,
  formatDuration,
  formatLoss,
  pauseText,
  percentDone,
  safeText,
} from '../../common/text.ts';
import type { NodeStatus } from '../../index.ts';
import { problemText, standingText } from '../../monitor/node-state.ts';
import {
  costText,
  monthText,
  placeTexts,
  settingsText,
  speedText,
  totalsText,
} from '../../monitor/node-work.ts';
import { shortPeer } from '../../protocol/ids.ts';
import { counts } from '../../protocol/receipts.ts';
import { SWARM } from '../command-name.ts';
import { timeOfDay } from '../print.ts';
import {
  because,
  clockTexts,
  DRAINING,
  engineText,
  isOver,
  NOTE,
  type NodeForJob,
  perJob,
  phaseOf,
  type ShownStatus,
  stateOf,
  updateLine,
} from '../views/node.ts';
import { hadPart, thanksTexts } from '../views/thanks.ts';
import { bar, columnsOf, cut, cutFront, wrap } from './columns.ts';
import type { TimeLeft } from './pace.ts';
import type { ScreenWarning } from './warnings.ts';

/** All that the screen of a node shows. */
export interface ScreenState {
  readonly status: ShownStatus;
  /** Time left of each job, in the order of the jobs. */
  readonly timeLeft: readonly TimeLeft[];
  /** Progress of a download, with its speed; null if there is none. */
  readonly download: string | null;
  /** The warnings that are on the screen, newest first. */
  readonly warnings: readonly ScreenWarning[];
  /** News, newest first. Times are in milliseconds since 1970. */
  readonly news: readonly { readonly at: number; readonly text: string }[];
  /** Path of the log file. */
  readonly logFile: string;
  /**
   * The option `--home` with which other commands find the home of the node, preceded by a space. Empty if these
   * commands find the home without the option.
   */
  readonly homeFlag: string;
}

/** Size of a terminal in characters. */
export interface ScreenSize {
  readonly columns: number;
  readonly rows: number;
}

/** Width of the labels at the beginning of the lines, in columns. */
const LABEL = 12;
const BAR = 20;
/** Minimum width for which lines are made, in columns. A narrower terminal cuts the lines. */
const LEAST_COLUMNS = 30;
/** Maximum number of lines of one text. Longer texts are cut; the log or `status` shows them in full. */
const LINES_OF_TEXT = 3;
/** Maximum number of lines of a text about a problem. Its end says what the owner has to do, sometimes with a path. */
const LINES_OF_PROBLEM = 12;
const SHOWN_NEWS = 6;
const SHOWN_WARNINGS = 3;

/**
 * Returns the lines of the screen of a node: what happens now, progress, contribution, cost, refusals, waiting,
 * warnings and news. The lines fit into the columns and the rows: news are left out first, then the last lines above the
 * final line, and a line says so. Texts that come from other machines are sanitised.
 */
export function screenLines(state: ScreenState, { columns, rows }: ScreenSize): string[] {
  const { status, warnings, news, logFile, homeFlag } = state;
  // One column stays free, because a full line would wrap in some terminals.
  const width = Math.max(LEAST_COLUMNS, columns - 1);
  const lines = (label: string, text: string, limit = LINES_OF_TEXT): string[] =>
    wrap(safeText(shortPeers(text), NOTE), { columns: width - LABEL, lines: limit }).map((line, i) =>
      `${i === 0 ? padded(label) : ' '.repeat(LABEL)}${line}`.trimEnd(),
    );
  const jobs = jobsOf(status);
  const body = [
    ...lines(
      'node',
      `${status.name}  …${status.peerId.slice(-8)}  up ${formatDuration(status.uptimeSeconds)}`,
    ),
    '',
    ...jobs.flatMap((job, i) =>
      jobs.length === 1 ? onlyJob(job, state, lines) : oneOfSeveral(job, i, state, lines),
    ),
    ...(status.draining ? lines('draining', DRAINING) : []),
    ...totalsText(status).flatMap((text, i) => lines(i === 0 ? 'contributed' : 'in all', text)),
    ...(jobs.length === 1 && !jobs[0]!.done ? placeOf(jobs[0]!).flatMap((text) => lines('place', text)) : []),
    ...clockTexts(status).flatMap((text) => lines('clock', text)),
    ...lines('costs', costText(status)),
    ...lines('traffic', `${speedText(status)}; ${monthText(status)}`),
    ...jobs.flatMap((job) => refusalOf(job)).flatMap(({ label, text }) => lines(label, text)),
    ...(status.engineNote === null ? [] : lines('engine', engineText(status))),
    ...warnings
      .slice(0, SHOWN_WARNINGS)
      .flatMap(({ text, count, at }) =>
        lines('warning', `${timeOfDay(at)} ${text}${count > 1 ? ` (${formatCount(count)} times)` : ''}`),
      ),
  ];
  const keys = 'Ctrl-C leaves the round and stops this node; log: ';
  // The end of the path names the file.
  const end = ['', cut(`${keys}${cutFront(safeText(logFile), width - columnsOf(keys))}`, width)];
  const room = rows - 1 - body.length - end.length;
  const recent: string[] = [];
  for (const { at, text } of news.slice(0, SHOWN_NEWS)) {
    const next = lines(recent.length === 0 ? 'recent' : '', `${timeOfDay(at)} ${text}`, 2);
    if (recent.length + next.length > room) break;
    recent.push(...next);
  }
  return [...fitted(body, { room: rows - 1 - end.length, width, homeFlag }), ...recent, ...end];
}

/** Returns the first lines of the body that fit into the room. If lines are left out, the last line says so. */
function fitted(
  body: readonly string[],
  { room, width, homeFlag }: { room: number; width: number; homeFlag: string },
): readonly string[] {
  if (body.length <= room) return body;
  const kept = body.slice(0, Math.max(0, room - 1));
  const left = countOf(body.length - kept.length, 'more line');
  return [...kept, cut(`… ${left}: ${SWARM} status${homeFlag}`, width)];
}

/** Shortens the peer ids in a text, as other texts for people do, so that the rest of the text has space. */
function shortPeers(text: string): string {
  return text.replace(/\b12D3KooW\w{44}\b/g, (peer) => shortPeer(peer));
}

/** Returns one status for each job of a node, with the updates of that job only. */
export function jobsOf(status: ShownStatus): NodeForJob[] {
  return perJob(status).map((one) => ({
    ...one,
    updates: one.updates.filter(({ job }) => job === one.job?.job),
  }));
}

type Lines = (label: string, text: string, limit?: number) => string[];

function onlyJob(job: NodeForJob, state: ScreenState, lines: Lines): string[] {
  const { timeLeft, download } = state;
  const { now, problem } = stateOf(job, state.homeFlag);
  const left = timeLeft[0] ?? { round: null, job: null };
  return [
    ...lines('now', job.shutOut === null ? (download ?? now) : now),
    ...(problem === null ? [] : lines('waiting', problemText(problem), LINES_OF_PROBLEM)),
    ...(job.state === 'training' ? lines('round', progressText(job.step, job.steps, left.round)) : []),
    ...(job.job === null ? [] : lines('job', jobText(job, left.job))),
    ...changeOf(job).flatMap((text) => lines('changed', text)),
    ...standingOf(job).flatMap((text) => lines('standing', text)),
    ...thanksOf(job, state).flatMap((text, i) => lines(i === 0 ? thanksLabel(job) : '', text)),
  ];
}

function oneOfSeveral(job: NodeForJob, index: number, state: ScreenState, lines: Lines): string[] {
  const { weight, shutOut, trainerSeconds } = job;
  const { now, problem } = stateOf(job, state.homeFlag);
  const left = state.timeLeft[index] ?? { round: null, job: null };
  const name = job.jobName ?? `job ${index + 1}`;
  const total = state.status.jobs.reduce((sum, one) => sum + one.trainerSeconds, 0);
  const share = `weight ${weight}, ${percentDone(trainerSeconds, total)} of the trainer's time`;
  if (shutOut !== null) return lines(name, now);
  if (job.done && job.job !== null)
    return [endedText(job), ...thanksOf(job, state)].flatMap((text, i) => lines(i === 0 ? name : '', text));
  const isDownloading = job.download !== null && state.download !== null;
  return [
    ...lines(name, isDownloading ? state.download! : now),
    ...(problem === null ? [] : lines('', problemText(problem), LINES_OF_PROBLEM)),
    ...(job.job === null ? [] : lines('', `${jobText(job, left.job)}; ${share}`)),
    ...changeOf(job).flatMap((text) => lines('', `changed ${text}`)),
    ...standingOf(job).flatMap((text) => lines('', `standing ${text}`)),
    ...placeOf(job).flatMap((text) => lines('', text)),
    ...thanksOf(job, state).flatMap((text) => lines('', text)),
  ];
}

/** Returns a short text about a job that has ended. The other jobs of the node need the space on the screen. */
function endedText({ job, followsJobs }: NodeForJob): string {
  const loss = job!.checkpoint === null ? '' : `; held-out loss ${formatLoss(job!.checkpoint.heldOutLoss)}`;
  return `${phaseOf(job!)}${because(job!)}${loss}; serves its files${followsJobs ? ', and waits for the next job' : ''}`;
}

function padded(label: string): string {
  const text = cut(safeText(label), LABEL - 1);
  return text + ' '.repeat(LABEL - columnsOf(text));
}

function progressText(done: number, total: number, secondsLeft: number | null): string {
  const left = secondsLeft === null ? '' : `, about ${formatDuration(secondsLeft)} left`;
  return `${bar(total > 0 ? done / total : 0, BAR)} ${percentDone(done, total)}${left}`;
}

function jobText({ job, round }: NodeStatus, secondsLeft: number | null): string {
  const { name, phase, reason, rounds, roundsDone, checkpoint } = job!;
  // Before the first head, this node does not know which rounds are done.
  if (phase === null) return `${name}, ${countOf(rounds, 'round')} in all`;
  const loss = checkpoint === null ? '' : `; held-out loss ${formatLoss(checkpoint.heldOutLoss)}`;
  const why = reason === '' ? '' : ` (${reason})`;
  if (isOver(job!)) return `${name} is ${phaseOf(job!)}${why}${loss}`;
  const progress = progressText(roundsDone, rounds, phase === 'paused' ? null : secondsLeft);
  const paused = phase === 'paused' ? `, ${pauseText(round)}${why}` : '';
  const restored = restoredOf({ job }).map((text) => `; ${text}`);
  return `${progress}: ${roundsDone} of ${countOf(rounds, 'round')} of ${name} done${paused}${loss}${restored.join('')}`;
}

/** Returns from which checkpoint the job continues after a roll-back; no text if its newest checkpoint is a merge. */
export function restoredOf({ job }: Pick<NodeStatus, 'job'>): string[] {
  return job !== null && job.phase === 'training' && job.reason !== '' ? [safeText(job.reason, NOTE)] : [];
}

function standingOf({ standing }: NodeStatus): string[] {
  return standing === null || (standing.kind === 'good' && standing.strikes === 0)
    ? []
    : [standingText(standing)];
}

function changeOf({ job }: NodeStatus): string[] {
  return job?.newestChange ? [settingsText(job.newestChange)] : [];
}

function placeOf({ job, totals }: NodeStatus): string[] {
  return placeTexts(job, totals);
}

function thanksLabel({ job, totals }: NodeStatus): string {
  return job === null || hadPart(job, totals) ? 'thanks' : 'ended';
}

/** Returns the lines that thank the user after the job has ended. Returns no lines before. */
export function thanksOf(
  { done, job }: NodeStatus,
  { status, homeFlag }: Pick<ScreenState, 'status' | 'homeFlag'>,
): string[] {
  return done && job !== null ? thanksTexts(job, status.totals, { homeFlag }) : [];
}

/** Returns label and text of a line about the newest update that did not count, with the reason; no line if there is none. */
function refusalOf({ updates, jobs, job }: NodeStatus): { label: string; text: string }[] {
  const refused = updates.find(
    ({ code, outcome }) => outcome === 'restored' || (code !== null && !counts(code)),
  );
  if (refused === undefined) return [];
  const { code } = refused;
  const isRefused = code !== null && !counts(code) && code !== 'null-round';
  return [
    {
      label: isRefused ? 'refused' : 'not merged',
      text: `${jobs.length > 1 ? `${job?.name}: ` : ''}${updateLine(refused, { isJobOver: job !== null && isOver(job) })}`,
    },
  ];
}
