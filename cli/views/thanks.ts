import { countOf, formatCount, formatDuration } from '../../common/text.ts';
import type { NodeStatus } from '../../index.ts';
import { SWARM } from '../command-name.ts';

type Totals = NodeStatus['totals'];

/** Returns a text with the total of a node's work in the given jobs. */
export function workText(totals: Totals): string {
  const sum = (field: 'accepted' | 'refused' | 'tokens' | 'seconds'): number =>
    totals.reduce((total, one) => total + one[field], 0);
  const refused = sum('refused') > 0 ? `, ${formatCount(sum('refused'))} not counted` : '';
  const trained = `${countOf(sum('tokens'), 'token')} in ${formatDuration(sum('seconds'))} of training`;
  return `${countOf(sum('accepted'), 'round')} accepted${refused}, ${trained}`;
}

/**
 * Returns the texts for a job that has ended: thanks with the work of this node in the job, and the command that fetches
 * the adapter.
 */
export function thanksTexts({ name, job }: NonNullable<NodeStatus['job']>, totals: Totals): string[] {
  const own = totals.filter((one) => one.job === job);
  const given = own.length === 0 ? '' : `: ${workText(own)}`;
  return [
    `thank you for your part in ${name}${given}`,
    `fetch the adapter: ${SWARM} checkpoint pull - ${name} (then paste the invite)`,
  ];
}

/** Returns the lines that a node prints when it stops: what it has contributed since its home folder was created. */
export function farewell({ totals }: NodeStatus): string[] {
  if (totals.every(({ accepted }) => accepted === 0)) return [];
  return [`contributed ${workText(totals)}, in ${countOf(totals.length, 'job')}; thank you`];
}
