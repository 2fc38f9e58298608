/** Texts about the contributions of a machine to jobs, and about their costs for the machine. */
import { countOf, formatBytes } from '../../common/text.ts';
import type { NodeStatus } from '../../index.ts';
import { workText } from './thanks.ts';

/**
 * Returns two lines: the work for the jobs that the node takes part in now, and the work for all jobs of this home. The
 * second line is left out if there were no other jobs.
 */
export function totalsText({ totals, jobs }: Pick<NodeStatus, 'totals' | 'jobs'>): string[] {
  if (totals.length === 0) return ['nothing yet'];
  const present = new Set(jobs.map(({ job }) => job?.job));
  const own = totals.filter(({ job }) => present.has(job));
  const all = `${workText(totals)} in ${countOf(totals.length, 'job')}`;
  return own.length === totals.length
    ? [workText(own)]
    : [own.length === 0 ? 'nothing yet' : workText(own), all];
}

/** Returns a text with the processor threads, the memory and the disk space that the node uses now. */
export function costText({ cost }: Pick<NodeStatus, 'cost'>): string {
  const disk = cost.diskBytes === null ? '' : `, disk ${formatBytes(cost.diskBytes)}`;
  return `CPU ${cost.cpuThreads.toFixed(1)} threads, memory ${formatBytes(cost.memoryBytes)}${disk}`;
}

/** Returns a text with the bytes per second that the node sends and receives now. */
export function speedText({ cost }: Pick<NodeStatus, 'cost'>): string {
  const { sent, received } = cost.bytesPerSecond;
  return `${formatBytes(sent)}/s up, ${formatBytes(received)}/s down`;
}

/** Returns the traffic of this month. */
export function monthText({ cost }: Pick<NodeStatus, 'cost'>): string {
  const { sent, received } = cost.month;
  return `this month ${formatBytes(sent)} up, ${formatBytes(received)} down`;
}
