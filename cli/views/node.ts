import { formatBytes, formatCount, formatDuration, formatLoss, safeText } from '../../monitor/text.ts';
import type { NodeStatus, NodeUpdate } from '../../node/api-types.ts';

/** Updates that the status of a node shows. */
const SHOWN_UPDATES = 5;

/** A contributor node on one screen. */
export function nodeLines(status: NodeStatus, url: string): string[] {
  const { job, coordinator, traffic } = status;
  return [
    `node        ${status.name}  ${status.peerId}  v${status.version}  up ${formatDuration(status.uptimeSeconds)}`,
    `api         ${url}`,
    `coordinator ${coordinator.peer ?? coordinator.addresses[0] ?? 'none'}${coordinator.connected ? '' : '  not connected'}`,
    ...(job === null ? [] : jobLines(status, job)),
    `state       ${activity(status)}`,
    `traffic     sent ${formatBytes(traffic.sent)}, received ${formatBytes(traffic.received)}`,
    ...status.updates.slice(0, SHOWN_UPDATES).map((update) => `update      ${updateLine(update)}`),
  ];
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
    return `fetching ${download.what}: ${percent} % of ${formatBytes(download.total)}`;
  }
  if (state === 'training') return `training round ${status.round}: step ${step} of ${steps}${speed}`;
  return `${state}${reason === '' ? '' : `: ${safeText(reason)}`}`;
}

/** One update and what became of it. */
export function updateLine({ round, bytes, code, detail, meaning }: NodeUpdate): string {
  const why = detail === '' ? meaning : `${meaning} (${safeText(detail)})`;
  return `round ${round}  ${formatBytes(bytes)}  ${code ?? 'sent'}: ${why}`;
}

/** Turns a node's statuses, one after the other, into a line for each thing that changed. */
export class NodeLines {
  private last: NodeStatus | null = null;

  next(status: NodeStatus): string[] {
    const before = this.last;
    this.last = status;
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
          `adapter of ${formatCount(job.adapterParameters)}`,
      );
    }
    if (status.download !== null && status.download.what !== before?.download?.what) {
      lines.push(`fetching ${status.download.what}, ${formatBytes(status.download.total)}`);
    }
    for (const update of [...status.updates].reverse()) {
      const known = before?.updates.find((u) => u.update === update.update);
      if (update.code !== null && update.code !== known?.code && before !== null) {
        lines.push(`${updateLine(update)}${speedOf(status)}`);
      }
    }
    if (status.state !== before?.state || status.round !== before?.round) {
      if (status.state === 'training') lines.push(`training round ${status.round}: ${status.steps} steps`);
      else if (status.reason !== '' && status.reason !== before?.reason) lines.push(activity(status));
    }
    const phase = job?.phase ?? null;
    if ((phase === 'finished' || phase === 'failed' || phase === 'paused') && phase !== before?.job?.phase) {
      lines.push(`job ${job!.name} is ${phase}, held-out loss ${formatLoss(job!.checkpoint?.heldOutLoss)}`);
    }
    return lines;
  }
}

function speedOf({ tokensPerSecond }: NodeStatus): string {
  return tokensPerSecond > 0 ? `, trained at ${formatCount(tokensPerSecond)} tokens/s` : '';
}
