import { formatCount } from '../../common/text.ts';

/** Returns a count with its noun: "1 node", "2 nodes", "1,200 rows". */
export function formatAmount(count: number, noun: string): string {
  return `${formatCount(count)} ${noun}${count === 1 ? '' : 's'}`;
}
