import { countOf, formatDuration, formatLoss, safeText } from '../../common/text.ts';
import { bannedPeers, isAccepted, type JobMoment, whyNotMerged } from '../../monitor/replay.ts';
import { shortPeer } from '../../protocol/ids.ts';
import { nodeName } from './events.ts';

/** Maximum number of nodes that a line names. */
const SHOWN_NODES = 12;

/** Returns lines about a job at a past moment. */
export function momentLines(name: string, moment: JobMoment): string[] {
  const { at, phase, reason, round, openedAt, assigned, updates, checkpoint, lowestLoss, present } = moment;
  const banned = bannedPeers(moment);
  if (at === null) return [`job ${name} had no events yet`];
  const accepted = updates.filter(isAccepted);
  const refused = updates.filter((update) => !isAccepted(update));
  const open = openedAt === null ? '' : `, opened ${formatDuration((at - openedAt) / 1000)} before`;
  const named = (peer: string): string => nodeName({ peer, name: present.get(peer) ?? '' });
  return [
    `job         ${name} at ${new Date(at).toISOString()}, event ${moment.sequence}`,
    `phase       ${phase}${reason === '' ? '' : `: ${safeText(reason)}`}`,
    round === 0
      ? 'round       none yet'
      : `round       ${round}${open}: ${accepted.length} of ${countOf(assigned, 'update')} accepted`,
    ...(accepted.length === 0 ? [] : [`delivered   ${listOf(accepted.map(nodeName))}`]),
    ...refused.map((update) => `not merged  ${nodeName(update)}: ${safeText(whyNotMerged(update))}`),
    checkpoint === null
      ? 'checkpoint  none yet'
      : `checkpoint  of round ${checkpoint.round}, held-out loss ${formatLoss(checkpoint.heldOutLoss)} (lowest ${formatLoss(lowestLoss)}); ${countOf(moment.roundsDone, 'checkpoint')} after the initial one`,
    `nodes       ${present.size === 0 ? 'none' : `${present.size}: ${listOf([...present.keys()].map(named))}`}`,
    ...(banned.length === 0 ? [] : [`banned      ${listOf(banned.map(shortPeer))}`]),
  ];
}

function listOf(names: readonly string[]): string {
  const rest = names.length - SHOWN_NODES;
  return `${names.slice(0, SHOWN_NODES).join(', ')}${rest > 0 ? ` and ${rest} more` : ''}`;
}
