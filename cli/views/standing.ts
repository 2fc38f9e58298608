import { countOf } from '../../common/text.ts';
import type { NodeStatus } from '../../index.ts';

/** Returns a line about the standing of the node; no line if the standing is good and the node has no strikes. */
export function standingLines({ standing }: NodeStatus): string[] {
  if (standing === null || (standing.kind === 'good' && standing.strikes === 0)) return [];
  return [`standing    ${standingText(standing)}`];
}

export function standingText({ kind, untilRound, strikes }: NonNullable<NodeStatus['standing']>): string {
  const text = {
    good: 'good',
    probation: `on probation up to round ${untilRound}: the node gets the fewest steps`,
    suspended: `suspended up to round ${untilRound}: the node gets no work`,
  }[kind];
  return `${text}; ${countOf(strikes, 'strike')} (the receipts of its updates say why)`;
}
