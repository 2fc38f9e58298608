import { InvalidArgumentError } from 'commander';
import { lifetime } from './common.ts';

/** Computes the chosen moment from the present time. Both are in milliseconds since 1970. */
export type Moment = (now: number) => number;

/** Parses a moment: a time before now such as 30m, 12h or 7d, or a date with or without a time of day. */
export function moment(text: string): Moment {
  if (/^\d+[mhd]$/.test(text)) {
    const ago = lifetime(text);
    return (now) => now - ago;
  }
  const at = /^\d{4}-\d{2}-\d{2}/.test(text) ? Date.parse(text.replace(' ', 'T')) : Number.NaN;
  if (Number.isNaN(at)) {
    throw new InvalidArgumentError(
      'Use a time before now such as 30m, 12h or 7d, or a date such as 2026-11-28T14:30.',
    );
  }
  return () => at;
}
