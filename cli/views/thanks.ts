import { countOf } from '../../common/text.ts';
import type { NodeStatus } from '../../index.ts';
import { workText } from '../../monitor/node-work.ts';
import { SWARM } from '../command-name.ts';

type Totals = NodeStatus['totals'];

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
