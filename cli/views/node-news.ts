import { formatBytes, formatCount, formatLoss, pauseText, safeText } from '../../common/text.ts';
import type { NodeStatus, NodeUpdate } from '../../index.ts';
import {
  afterJobText,
  downloadText,
  NOT_YET_CONNECTED,
  pausedText,
  problemText,
  standingText,
} from '../../monitor/node-state.ts';
import { settingsText } from '../../monitor/node-work.ts';
import { counts } from '../../protocol/receipts.ts';
import { dateAndTime } from '../print.ts';
import {
  because,
  engineText,
  labelOf,
  missedTexts,
  NOTE,
  type NodeForJob,
  perJob,
  phaseOf,
  type ShownStatus,
  shownPause,
  stateOf,
  updateLine,
} from './node.ts';
import { finalPlaceTexts, thanksTexts } from './thanks.ts';

const GOES_ON = 'continues after the pause';
const DRAINS = 'takes no new work, and stops after its present round';

/** Returns whether a line is about the whole node, so that all jobs of the node have the same line. */
function isOfNode(line: string): boolean {
  return line === GOES_ON || line === DRAINS || line.startsWith('paused');
}

/** Compares successive statuses of a node, and makes a line for each change. */
export class NodeLines {
  readonly #jobs: JobLines[] = [];
  readonly #homeFlag: string;
  /** Updates in the first status. They are from before this run; null before the first status. */
  #old: ReadonlySet<string> | null = null;
  /** The updates of all jobs in the previous status. */
  #updates: readonly NodeUpdate[] = [];

  /** @param options.homeFlag the result of `homeFlag` (see thanks.ts) for the node */
  constructor({ homeFlag }: { homeFlag: string }) {
    this.#homeFlag = homeFlag;
  }

  next(status: ShownStatus): string[] {
    const jobs = perJob(status);
    this.#old ??= new Set(status.updates.map(({ update }) => update));
    // The node may join a job after its first status. The updates of this job are then not new.
    const known = { old: this.#old, before: this.#updates };
    this.#updates = status.updates;
    const lines = jobs.flatMap((job, i) => {
      this.#jobs[i] ??= new JobLines({ showsEngine: i === 0, homeFlag: this.#homeFlag });
      const own = this.#jobs[i].next(job, known);
      return own.map((line) => (jobs.length === 1 || isOfNode(line) ? line : `${labelOf(job)}${line}`));
    });
    return [...new Set(lines)];
  }
}

/** The updates of all jobs of a node that earlier statuses contained. */
interface KnownUpdates {
  /** Digests of the updates from before this run. */
  readonly old: ReadonlySet<string>;
  /** Updates in the previous status. */
  readonly before: readonly NodeUpdate[];
}

/** Makes the lines about one job of a node. */
class JobLines {
  readonly #showsEngine: boolean;
  readonly #homeFlag: string;
  #last: NodeForJob | null = null;

  /** @param options `showsEngine`: whether to make lines about the engine, which all jobs share */
  constructor({ showsEngine, homeFlag }: { showsEngine: boolean; homeFlag: string }) {
    this.#homeFlag = homeFlag;
    this.#showsEngine = showsEngine;
  }

  next(status: NodeForJob, { old, before: updatesBefore }: KnownUpdates): string[] {
    const before = this.#last;
    this.#last = status;
    if (status.shutOut !== null)
      return (before?.shutOut ?? null) === null ? [safeText(stateOf(status, this.#homeFlag).now, NOTE)] : [];
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
      lines.push(`fetching ${downloadText(download.what)}, ${formatBytes(download.total)}`);
    }
    if (before?.download?.what === 'base' && download?.what !== 'base') {
      lines.push('the base model has arrived; preparing the trainer');
    }
    for (const update of [...status.updates].reverse()) {
      const known = updatesBefore.find((u) => u.update === update.update);
      const restored = update.outcome === 'restored' && known?.outcome !== 'restored';
      const accepted = update.code !== null && counts(update.code) && update.code !== known?.code;
      // The line about a refused update is printed when the node has added the update back to its error feedback.
      if (before !== null && update.code !== null && (restored || accepted)) {
        lines.push(
          `${updateLine(update)}${accepted && !old.has(update.update) ? speedOf(status, update) : ''}`,
        );
      }
    }
    if (before !== null && status.missedRound !== before.missedRound) lines.push(...missedTexts(status));
    const flag = this.#homeFlag;
    const paused = pauseOf(status, flag);
    const pausedBefore = before && pauseOf(before, flag);
    if (paused !== null && paused !== pausedBefore) lines.push(paused);
    if (paused === null && pausedBefore !== null) lines.push(GOES_ON);
    if (status.draining && !before?.draining) lines.push(DRAINS);
    if (paused === null && cannotJoin(status) && status.reason !== before?.reason) {
      const { problem } = stateOf(status, this.#homeFlag);
      if (problem !== null) lines.push(safeText(problemText(problem), NOTE));
    }
    if (status.state !== before?.state || status.round !== before?.round) {
      if (status.state === 'training') lines.push(`training round ${status.round}: ${status.steps} steps`);
      else if (paused === null && status.reason !== before?.reason && !isExplained(status))
        lines.push(waitLine(status, flag));
    } else if (paused === null && failsToJoin(status)) {
      // During a pause, no line names the cause.
      if (pausedBefore !== null || causeOf(status) !== causeOf(before)) lines.push(waitLine(status, flag));
    }
    const change = job?.newestChange ?? null;
    if (before !== null && change !== null && change.digest !== before.job?.newestChange?.digest) {
      lines.push(`the operator changed settings ${safeText(settingsText(change), NOTE)}`);
    }
    const phase = job?.phase ?? null;
    if (phase === 'training' && job!.reason !== '' && job!.reason !== before?.job?.reason) {
      lines.push(`job ${job!.name} ${safeText(job!.reason, NOTE)}`);
    }
    if ((phase === 'finished' || phase === 'failed' || phase === 'paused') && phase !== before?.job?.phase) {
      const isOnly = status.jobs.length < 2;
      const after =
        phase === 'paused'
          ? ''
          : `; ${afterJobText(status)}${isOnly && !status.stopsAfterJobs ? '; Ctrl-C stops it' : ''}`;
      const rest = phase === 'paused' ? pauseText(status.round) : phaseOf(job!);
      lines.push(
        `job ${job!.name} is ${rest}${because(job!)}, held-out loss ${formatLoss(job!.checkpoint?.heldOutLoss)}${after}`,
      );
    }
    if (status.done && job !== null) {
      // The coordinator may answer about the place of the node after the job has ended.
      const isPlaced = before !== null && finalPlaceTexts(job, before.totals).length > 0;
      if (!before?.done) lines.push(...thanksTexts(job, status.totals, { homeFlag: this.#homeFlag }));
      else if (!isPlaced) lines.push(...finalPlaceTexts(job, status.totals));
    }
    return lines;
  }
}

/**
 * Returns a key that changes whenever `lora-swarm node --json` must print a "state" event. Progress within a round does not
 * change the key.
 */
export function stateKey({ jobs, updates }: NodeStatus): string {
  return JSON.stringify([
    jobs.map(({ state, round, job, coordinator, shutOut, reason }) => [
      state,
      causeOf({ coordinator, reason }),
      round,
      job?.job,
      job?.phase,
      job?.reason,
      coordinator.connected,
      shutOut?.code,
    ]),
    updates.map((u) => [u.update, u.code]),
  ]);
}

/** Returns why the whole node is paused; null if it is not. */
function pauseOf(status: NodeForJob, homeFlag: string): string | null {
  const text = pausedText(status, { pause: shownPause(status.pause, homeFlag), date: dateAndTime });
  return text && safeText(text, NOTE);
}

/** Returns what a node does while it is not training, and why it waits. */
function waitLine(status: NodeForJob, homeFlag: string): string {
  const { now, problem } = stateOf(status, homeFlag);
  return safeText(problem === null ? now : `${now}: ${problem.text}`, NOTE);
}

/** Returns whether the node is connected but cannot join, for example because no engine runs. */
function cannotJoin({ state, coordinator, reason }: NodeStatus): boolean {
  return state === 'joining' && coordinator.connected && reason !== NOT_YET_CONNECTED;
}

/** Returns whether the node could not join a job and has no connection for it. */
function failsToJoin(status: NodeStatus): boolean {
  return status.state === 'joining' && !status.coordinator.connected && causeOf(status) !== NOT_YET_CONNECTED;
}

/**
 * Returns why a node waits. All failures to connect to the coordinator count as one cause, because each address has its own.
 */
function causeOf({ coordinator, reason }: Pick<NodeStatus, 'coordinator' | 'reason'>): string {
  return coordinator.unreachable === null ? reason : 'unreachable';
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

/** Returns the speed of an update's round, if the speed in the status is of this round. */
function speedOf({ tokensPerSecond, updates }: NodeStatus, { update }: NodeUpdate): string {
  return tokensPerSecond > 0 && updates[0]?.update === update
    ? `, trained at ${formatCount(tokensPerSecond)} tokens/s`
    : '';
}
