import {
  formatBytes,
  formatCount,
  formatDuration,
  formatLoss,
  roundText,
  safeText,
} from '../../common/text.ts';
import type { NodeStatus, NodeUpdate } from '../../index.ts';
import { NOT_YET_CONNECTED } from '../../node/machine/state.ts';
import { counts } from '../../protocol/receipts.ts';
import { percentDone } from '../print.ts';
import { costText, monthText, totalsText } from './contribution.ts';
import { standingLines, standingText } from './standing.ts';
import { thanksTexts } from './thanks.ts';

const DOWNLOADS = { base: 'the base model', data: 'data', adapter: 'the adapter' } as const;
/** Number of newest updates that the status of a node shows. */
const SHOWN_UPDATES = 5;
/**
 * Maximum length of a reason or a note about the engine. The note may contain an error of the engine's driver and a
 * path, so it may be longer than other texts.
 */
export const NOTE = { maxCharacters: 600 };

/** Returns the status of a node as lines that fit on one screen. */
export function nodeLines(status: NodeStatus, url: string): string[] {
  const { traffic } = status;
  const engine = status.engine === '' ? [] : [`engine      ${engineText(status)}`];
  const jobs = perJob(status);
  const [only] = jobs;
  return [
    `node        ${status.name}  ${status.peerId}  v${status.version}  up ${formatDuration(status.uptimeSeconds)}`,
    `api         ${url}`,
    ...(jobs.length === 1 ? contactLines(only!) : []),
    ...engine,
    ...(jobs.length === 1 ? stateLines(only!) : []),
    ...totalsText(status).map((text, i) => `${i === 0 ? 'contributed' : 'in all     '} ${text}`),
    `costs       ${costText(status)}`,
    `traffic     sent ${formatBytes(traffic.sent)}, received ${formatBytes(traffic.received)}; ${monthText(status)}`,
    ...(jobs.length === 1 ? updateLines(only!) : jobs.flatMap((job, i) => sharedJobLines(job, i, status))),
  ];
}

/**
 * Splits the status of a node into one status for each of its jobs, which contains only the fields and updates of the
 * job.
 */
export function perJob(status: NodeStatus): NodeStatus[] {
  if (status.jobs.length < 2) return [status];
  return status.jobs.map((one) => {
    const updates = status.updates.filter(({ job }) => job === one.job?.job);
    return { ...status, ...one, updates };
  });
}

/** Returns the lines of one of several jobs, which share the trainer of the node. */
function sharedJobLines(job: NodeStatus, index: number, { jobs }: NodeStatus): string[] {
  const { weight, trainerSeconds, shutOut } = jobs[index]!;
  const total = jobs.reduce((sum, one) => sum + one.trainerSeconds, 0);
  const used = total > 0 ? `, ${percentDone(trainerSeconds, total)} of the trainer's time so far` : '';
  return [
    '',
    ...contactLines(job),
    `share       weight ${weight}${used}`,
    ...(shutOut === null ? stateLines(job) : [`state       ${shutOutText(shutOut)}`]),
    ...updateLines(job),
  ];
}

function contactLines(status: NodeStatus): string[] {
  const { job, coordinator } = status;
  return [
    `coordinator ${coordinator.peer ?? coordinator.addresses[0] ?? 'none'}${coordinator.connected ? '' : '  not connected'}`,
    ...(job === null ? [] : jobLines(status, job)),
  ];
}

function stateLines(status: NodeStatus): string[] {
  return [`state       ${activity(status)}`, ...standingLines(status)];
}

function updateLines({ updates }: NodeStatus): string[] {
  return updates.slice(0, SHOWN_UPDATES).map((update) => `update      ${updateLine(update)}`);
}

export function shutOutText({ message }: NonNullable<NodeStatus['jobs'][number]['shutOut']>): string {
  return `shut out: ${safeText(message, NOTE)}`;
}

/** Returns the weight of a job for the end of a line; an empty text for the weight 1. */
export function weightText(weight: number): string {
  return weight === 1 ? '' : `  weight ${weight}`;
}

function engineText({ engine, engineNote }: NodeStatus): string {
  return engineNote === null ? engine : `${engine}: ${safeText(engineNote, NOTE)}`;
}

/** Returns the coordinator's reason for the phase of a job, for the end of a sentence. */
function because({ reason }: NonNullable<NodeStatus['job']>): string {
  return reason === '' ? '' : `: ${safeText(reason, NOTE)}`;
}

function jobLines({ round }: NodeStatus, job: NonNullable<NodeStatus['job']>): string[] {
  const loss = job.checkpoint === null ? '' : `  held-out loss ${formatLoss(job.checkpoint.heldOutLoss)}`;
  return [
    `job         ${job.name}  ${job.job.slice(0, 12)}  ${roundText(round, job)}  ${job.phase ?? 'unknown'}${because(job)}${loss}`,
    `base        ${safeText(job.base.name)}  ${formatCount(job.base.parameters)} parameters, adapter ${formatCount(job.adapterParameters)}`,
  ];
}

/** Returns what the node is doing, or why it is waiting. */
export function activity(status: NodeStatus): string {
  const { state, step, steps, tokensPerSecond, download, reason } = status;
  const speed = tokensPerSecond > 0 ? `, ${formatCount(tokensPerSecond)} tokens/s` : '';
  if (download !== null) {
    const { what, bytes, total } = download;
    return `fetching ${DOWNLOADS[what]}: ${percentDone(bytes, total)} of ${formatBytes(total)}`;
  }
  if (state === 'training') return `training round ${status.round}: step ${step} of ${steps}${speed}`;
  return `${state}${reason === '' ? '' : `: ${safeText(reason, NOTE)}`}`;
}

/** Returns a line about one update and its outcome. The line explains the outcome unless the update was accepted. */
export function updateLine({ round, bytes, code, detail, meaning, outcome }: NodeUpdate): string {
  const head = `round ${round}  ${formatBytes(bytes)}  ${code ?? 'sent'}`;
  if (outcome === 'counted') return `${head}, merged`;
  if (code === 'accepted' && outcome === null) return head;
  const why = detail === '' ? meaning : `${meaning} (${safeText(detail)})`;
  return `${head}: ${why}${outcome === 'restored' ? '; its content is added to the next update' : ''}`;
}

/** Makes the progress line of a node. The line of a download has its speed and the time left. */
export class NodeProgress {
  #start: { what: string; bytes: number; at: number } | null = null;

  /**
   * @param now milliseconds
   * @returns a line about the first job that downloads, or else about the job that trains; null when nothing is in progress
   */
  line(status: NodeStatus, now: number): string | null {
    const jobs = perJob(status);
    const job =
      jobs.find(({ download }) => download !== null) ?? jobs.find(({ state }) => state === 'training');
    const line = this.#lineOf(job ?? jobs[0]!, now);
    return line !== null && jobs.length > 1 ? `${labelOf(job!)}${line}` : line;
  }

  #lineOf(status: NodeStatus, now: number): string | null {
    const { download } = status;
    if (download === null) {
      this.#start = null;
      return status.state === 'training' ? activity(status) : null;
    }
    const { what, bytes, total } = download;
    // Bytes from an earlier attempt must not count towards the speed.
    if (this.#start?.what !== what) this.#start = { what, bytes, at: now };
    const speed = (bytes - this.#start.bytes) / Math.max((now - this.#start.at) / 1000, 1e-3);
    if (speed === 0) return activity(status);
    return `${activity(status)}, ${formatBytes(speed)}/s, ${formatDuration((total - bytes) / speed)} left`;
  }
}

/** Names the job at the beginning of a line, for a node with several jobs. */
function labelOf({ job, coordinator }: NodeStatus): string {
  const name = job === null ? (coordinator.peer ?? coordinator.addresses[0])?.slice(-8) : job.name;
  return `${name ?? 'no coordinator'}: `;
}

/** Compares successive statuses of a node, and makes a line for each change. */
export class NodeLines {
  readonly #jobs: JobLines[] = [];

  next(status: NodeStatus): string[] {
    const jobs = perJob(status);
    return jobs.flatMap((job, i) => {
      this.#jobs[i] ??= new JobLines({ showsEngine: i === 0 });
      const lines = this.#jobs[i].next(job);
      const shutOut = status.jobs[i]?.shutOut ?? null;
      if (jobs.length === 1) return lines;
      const refused = this.#jobs[i].isShutOut(shutOut !== null) ? [shutOutText(shutOut!)] : [];
      return [...lines, ...refused].map((line) => `${labelOf(job)}${line}`);
    });
  }
}

/** Makes the lines about one job of a node. */
class JobLines {
  readonly #showsEngine: boolean;
  #last: NodeStatus | null = null;
  #shutOut = false;

  /** @param options `showsEngine`: whether to make lines about the engine, which all jobs share */
  constructor({ showsEngine }: { showsEngine: boolean }) {
    this.#showsEngine = showsEngine;
  }

  /** Returns whether the coordinator has shut the node out since the last call. */
  isShutOut(now: boolean): boolean {
    const before = this.#shutOut;
    this.#shutOut = now;
    return now && !before;
  }

  next(status: NodeStatus): string[] {
    const before = this.#last;
    this.#last = status;
    const lines: string[] = [];
    const { job, coordinator } = status;
    if (coordinator.connected !== (before?.coordinator.connected ?? false)) {
      lines.push(
        coordinator.connected
          ? 'connected to the coordinator'
          : 'lost the connection to the coordinator; retrying',
      );
    }
    if (job !== null && job.job !== before?.job?.job) {
      lines.push(
        `joined ${job.name}: base ${safeText(job.base.name)} (${formatCount(job.base.parameters)} parameters), ` +
          `adapter of ${formatCount(job.adapterParameters)} parameters`,
      );
    }
    const { standing } = status;
    if (standing !== null && standing.kind !== (before?.standing?.kind ?? 'good')) {
      lines.push(`standing ${standingText(standing)}`);
    }
    const { engineNote } = status;
    if (this.#showsEngine && engineNote !== null && engineNote !== before?.engineNote)
      lines.push(`engine ${engineText(status)}`);
    const { download } = status;
    if (download !== null && download.what !== before?.download?.what) {
      lines.push(`fetching ${DOWNLOADS[download.what]}, ${formatBytes(download.total)}`);
    }
    if (before?.download?.what === 'base' && download?.what !== 'base') {
      lines.push('the base model has arrived; preparing the trainer');
    }
    for (const update of [...status.updates].reverse()) {
      const known = before?.updates.find((u) => u.update === update.update);
      const restored = update.outcome === 'restored' && known?.outcome !== 'restored';
      const accepted = update.code !== null && counts(update.code) && update.code !== known?.code;
      // A refused update is put back into the error feedback a moment later, and its line is printed then.
      if (before !== null && update.code !== null && (restored || accepted)) {
        lines.push(`${updateLine(update)}${accepted ? speedOf(status) : ''}`);
      }
    }
    if (cannotJoin(status) && status.reason !== before?.reason) {
      lines.push(
        status.hold === null
          ? `cannot join yet: ${safeText(status.reason, NOTE)}; retrying`
          : holdText(status),
      );
    }
    if (status.state !== before?.state || status.round !== before?.round) {
      if (status.state === 'training') lines.push(`training round ${status.round}: ${status.steps} steps`);
      else if (status.reason !== before?.reason && !isExplained(status)) lines.push(activity(status));
    }
    const phase = job?.phase ?? null;
    if ((phase === 'finished' || phase === 'failed' || phase === 'paused') && phase !== before?.job?.phase) {
      const isOnly = status.jobs.length < 2;
      const after =
        phase === 'paused'
          ? ''
          : `; this node now only serves its files to other peers${isOnly ? '; Ctrl-C stops it' : ''}`;
      lines.push(
        `job ${job!.name} is ${phase}${because(job!)}, held-out loss ${formatLoss(job!.checkpoint?.heldOutLoss)}${after}`,
      );
    }
    if (status.done && !before?.done && job !== null) lines.push(...thanksTexts(job, status.totals));
    return lines;
  }
}

/**
 * Returns a text for a node with a hold: the node takes no work until its owner acts. The reason says what to change.
 */
export function holdText({ reason }: Pick<NodeStatus, 'reason'>): string {
  return `cannot take part until you change this: ${safeText(reason, NOTE)}`;
}

/** Returns whether the node is connected but cannot join, for example because no engine runs. */
function cannotJoin({ state, coordinator, reason }: NodeStatus): boolean {
  return state === 'joining' && coordinator.connected && reason !== NOT_YET_CONNECTED;
}

/** Returns whether a line about the connection, about this round's update or about the job already gives the reason. */
function isExplained({ state, reason, coordinator, job, round, updates }: NodeStatus): boolean {
  if (reason === '') return true;
  if (state === 'joining') return coordinator.connected;
  const delivered = updates[0]?.round === round && round > 0;
  const phase = job?.phase ?? null;
  return (
    state === 'awaiting' && (delivered || phase === 'finished' || phase === 'failed' || phase === 'paused')
  );
}

function speedOf({ tokensPerSecond }: NodeStatus): string {
  return tokensPerSecond > 0 ? `, trained at ${formatCount(tokensPerSecond)} tokens/s` : '';
}
