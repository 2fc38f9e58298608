import { formatBytes, formatCount, formatDuration, formatLoss, safeText } from '../../common/text.ts';
import type { NodeStatus, NodeUpdate } from '../../node/api-types.ts';
import { NOT_YET_CONNECTED } from '../../node/machine/state.ts';
import { counts } from '../../protocol/receipts.ts';

const DOWNLOADS = { base: 'the base model', data: 'data', adapter: 'the adapter' } as const;
/** Updates that the status of a node shows. */
const SHOWN_UPDATES = 5;
/** What is said of the engine has an error of its provider in it, and what to do about it a path. */
const NOTE = { maxCharacters: 600 };

/** A contributor node on one screen. */
export function nodeLines(status: NodeStatus, url: string): string[] {
  const { job, coordinator, traffic } = status;
  return [
    `node        ${status.name}  ${status.peerId}  v${status.version}  up ${formatDuration(status.uptimeSeconds)}`,
    `api         ${url}`,
    `coordinator ${coordinator.peer ?? coordinator.addresses[0] ?? 'none'}${coordinator.connected ? '' : '  not connected'}`,
    ...(job === null ? [] : jobLines(status, job)),
    ...(status.engine === '' ? [] : [`engine      ${engineText(status)}`]),
    `state       ${activity(status)}`,
    `traffic     sent ${formatBytes(traffic.sent)}, received ${formatBytes(traffic.received)}`,
    ...status.updates.slice(0, SHOWN_UPDATES).map((update) => `update      ${updateLine(update)}`),
  ];
}

function engineText({ engine, engineNote }: NodeStatus): string {
  return engineNote === null ? engine : `${engine}: ${safeText(engineNote, NOTE)}`;
}

function jobLines({ round }: NodeStatus, job: NonNullable<NodeStatus['job']>): string[] {
  const loss = job.checkpoint === null ? '' : `  held-out loss ${formatLoss(job.checkpoint.heldOutLoss)}`;
  return [
    `job         ${job.name}  ${job.job.slice(0, 12)}  round ${round} of ${job.rounds}  ${job.phase ?? 'unknown'}${loss}`,
    `base        ${safeText(job.base.name)}  ${formatCount(job.base.parameters)} parameters, adapter ${formatCount(job.adapterParameters)}`,
  ];
}

/** What the node does at this moment, with the reason where it waits. */
export function activity(status: NodeStatus): string {
  const { state, step, steps, tokensPerSecond, download, reason } = status;
  const speed = tokensPerSecond > 0 ? `, ${formatCount(tokensPerSecond)} tokens/s` : '';
  if (download !== null) {
    const percent = download.total > 0 ? Math.floor((download.bytes / download.total) * 100) : 0;
    return `fetching ${DOWNLOADS[download.what]}: ${percent} % of ${formatBytes(download.total)}`;
  }
  if (state === 'training') return `training round ${status.round}: step ${step} of ${steps}${speed}`;
  return `${state}${reason === '' ? '' : `: ${safeText(reason, NOTE)}`}`;
}

/** One update and what became of it. What went well needs no reasons. */
export function updateLine({ round, bytes, code, detail, meaning, outcome }: NodeUpdate): string {
  const head = `round ${round}  ${formatBytes(bytes)}  ${code ?? 'sent'}`;
  if (outcome === 'counted') return `${head}, merged`;
  if (code === 'accepted' && outcome === null) return head;
  const why = detail === '' ? meaning : `${meaning} (${safeText(detail)})`;
  return `${head}: ${why}${outcome === 'restored' ? '; its content goes into the next update' : ''}`;
}

/** What a node is busy with, for a line that is overwritten; a download with its speed and the time left. */
export class NodeProgress {
  #start: { what: string; bytes: number; at: number } | null = null;

  /** @param now ms; null where there is nothing to watch */
  line(status: NodeStatus, now: number): string | null {
    const { download } = status;
    if (download === null) {
      this.#start = null;
      return status.state === 'training' ? activity(status) : null;
    }
    const { what, bytes, total } = download;
    // What an earlier try has left counts as there, not as fast.
    if (this.#start?.what !== what) this.#start = { what, bytes, at: now };
    const speed = (bytes - this.#start.bytes) / Math.max((now - this.#start.at) / 1000, 1e-3);
    if (speed === 0) return activity(status);
    return `${activity(status)}, ${formatBytes(speed)}/s, ${formatDuration((total - bytes) / speed)} left`;
  }
}

/** Turns a node's statuses, one after the other, into a line for each thing that changed. */
export class NodeLines {
  #last: NodeStatus | null = null;

  next(status: NodeStatus): string[] {
    const before = this.#last;
    this.#last = status;
    const lines: string[] = [];
    const { job, coordinator } = status;
    if (coordinator.connected !== (before?.coordinator.connected ?? false)) {
      lines.push(
        coordinator.connected
          ? 'connected to the coordinator'
          : 'lost the coordinator; trying again for ever',
      );
    }
    if (job !== null && job.job !== before?.job?.job) {
      lines.push(
        `joined ${job.name}: base ${safeText(job.base.name)} (${formatCount(job.base.parameters)} parameters), ` +
          `adapter of ${formatCount(job.adapterParameters)} parameters`,
      );
    }
    const { engineNote } = status;
    if (engineNote !== null && engineNote !== before?.engineNote) lines.push(`engine ${engineText(status)}`);
    const { download } = status;
    if (download !== null && download.what !== before?.download?.what) {
      lines.push(`fetching ${DOWNLOADS[download.what]}, ${formatBytes(download.total)}`);
    }
    if (before?.download?.what === 'base' && download?.what !== 'base') {
      lines.push('the base is here; preparing the trainer');
    }
    for (const update of [...status.updates].reverse()) {
      const known = before?.updates.find((u) => u.update === update.update);
      const wentBack = update.outcome === 'restored' && known?.outcome !== 'restored';
      const taken = update.code !== null && counts(update.code) && update.code !== known?.code;
      // What is not taken goes back a moment later, and is told of then.
      if (before !== null && update.code !== null && (wentBack || taken)) {
        lines.push(`${updateLine(update)}${taken ? speedOf(status) : ''}`);
      }
    }
    if (cannotJoin(status) && status.reason !== before?.reason) {
      lines.push(`cannot take part yet: ${safeText(status.reason, NOTE)}; trying again for ever`);
    }
    if (status.state !== before?.state || status.round !== before?.round) {
      if (status.state === 'training') lines.push(`training round ${status.round}: ${status.steps} steps`);
      else if (status.reason !== before?.reason && !isKnown(status)) lines.push(activity(status));
    }
    const phase = job?.phase ?? null;
    if ((phase === 'finished' || phase === 'failed' || phase === 'paused') && phase !== before?.job?.phase) {
      const after = phase === 'paused' ? '' : '; this node only hands on what it holds: Ctrl-C stops it';
      lines.push(
        `job ${job!.name} is ${phase}, held-out loss ${formatLoss(job!.checkpoint?.heldOutLoss)}${after}`,
      );
    }
    return lines;
  }
}

/** Whether it was the job that could not be joined: connected is the coordinator of a node that cannot compute, too. */
function cannotJoin({ state, coordinator, reason }: NodeStatus): boolean {
  return state === 'joining' && coordinator.connected && reason !== NOT_YET_CONNECTED;
}

/** Whether another line tells why the node waits: of its connection, of its update in this round, of the job's end. */
function isKnown({ state, reason, coordinator, job, round, updates }: NodeStatus): boolean {
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
