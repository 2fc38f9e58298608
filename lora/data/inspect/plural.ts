import { formatCount } from '../../../common/text.ts';

/** "1 sample", "2 samples". */
export function some(count: number, thing: string): string {
  return `${formatCount(count)} ${thing}${count === 1 ? '' : 's'}`;
}

/** A share of 1 in percent, with a decimal where it is small. */
export function percent(share: number): string {
  const value = 100 * share;
  return `${value > 0 && value < 9.95 ? value.toFixed(value < 0.095 ? 2 : 1) : Math.round(value)} %`;
}
