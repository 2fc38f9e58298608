import { countOf, formatBytes, formatCount, formatDuration, safeText, table } from '../../common/text.ts';
import type { BanView, FormerPeer, PeerReceipts, PeerStanding, PeerStrike, PeerView } from '../../index.ts';
import { roundWithSteps } from '../../monitor/round-progress.ts';
import { shortPeer } from '../../protocol/ids.ts';
import { SWARM } from '../command-name.ts';
import { nodeName } from './events.ts';

/** Number of spaces before the meaning of a receipt or strike. */
export const MEANING_INDENT = 12;

/** States of a node that has left or stopped sending heartbeats. */
const GONE: readonly string[] = ['left', 'lost'];

/**
 * A table of the nodes of all jobs. Nodes that are gone come last. The column `accepted` has the number of a node's
 * accepted updates and the number of all its updates. An update that the merge of its round left out does not count as
 * accepted. The column `belief` has the factor, from 0 to 1, by which the weight of the node's updates is multiplied. The
 * column `standing` says how far the coordinator trusts the person who answers for the node. The column `health` has the level
 * and the reason of a node that is not healthy. A narrow terminal shows fewer columns.
 * @param columns maximum length of a line
 */
export function peerLines(peers: readonly PeerView[], columns = Number.POSITIVE_INFINITY): string[] {
  if (peers.length === 0)
    return ['no node has joined yet', `next: on another machine, run ${SWARM} node - and paste the invite`];
  const here = peers.filter(({ state }) => !GONE.includes(state));
  const gone = peers.filter(({ state }) => GONE.includes(state));
  const all = [...here, ...gone].map(peerFacts);
  const shown = (Object.keys(all[0]!) as PeerColumn[]).filter((name) =>
    all.some((facts) => facts[name] !== ''),
  );
  const lines = (): string[] => table([shown, ...all.map((facts) => shown.map((name) => facts[name]))]);
  const hidden: PeerColumn[] = [];
  for (const name of FIRST_HIDDEN) {
    if (lines().every((line) => line.length <= columns)) break;
    if (!shown.includes(name)) continue;
    shown.splice(shown.indexOf(name), 1);
    hidden.push(name);
  }
  if (hidden.length === 0) return lines();
  return [...lines(), `not shown in this narrow terminal: ${hidden.join(', ')}`];
}

type PeerColumn = keyof ReturnType<typeof peerFacts>;
/** Columns that a narrow terminal does not show; the first ones are left out first. */
const FIRST_HIDDEN: readonly PeerColumn[] = [
  'sent',
  'last update',
  'round trip',
  'belief',
  'tokens/s',
  'last seen',
  'accepted',
  'standing',
  'round',
];

function peerFacts(peer: PeerView) {
  const gone = GONE.includes(peer.state);
  return {
    node: nodeName(peer),
    job: peer.jobName,
    state: [
      peer.hold === null || peer.state === 'left' ? peer.state : `no work (${peer.hold.reason})`,
      ...(peer.role === 'contributor' ? [] : [peer.role]),
      ...(gone || peer.connected ? [] : ['not connected']),
    ].join(', '),
    round: gone ? '–' : roundWithSteps(peer),
    'tokens/s': formatCount(peer.tokensPerSecond),
    accepted: acceptedText(peer),
    belief: peer.score === null ? '–' : peer.score.belief.toFixed(2),
    standing: peer.standing,
    sent: gone ? '–' : formatBytes(peer.bytesSent),
    'round trip': peer.rttMs === null ? '–' : `${Math.round(peer.rttMs)} ms`,
    'last seen': `${formatDuration(peer.lastSeenSeconds)} ago`,
    'last update': peer.last === null ? '' : outcomeText(peer.last),
    health: peer.health.level === 'green' ? '' : `${peer.health.level}: ${safeText(peer.health.reason)}`,
  };
}

/** Returns how many of a node's updates were accepted and not left out later: "29/31". */
export function acceptedText({ accepted, refused, unmerged }: PeerView): string {
  return `${accepted}/${accepted + refused + unmerged}`;
}

function outcomeText({ code, detail }: NonNullable<PeerView['last']>): string {
  if (code !== 'null-round') return code;
  return detail === '' ? 'not merged' : `not merged: ${safeText(detail)}`;
}

/** Returns lines about a node in each of its jobs at present: health with its reason, round trip, and last sign of life. */
export function presentLines(peers: readonly PeerView[]): string[] {
  return peers.map(({ jobName, state, health, rttMs, lastSeenSeconds, hold }) =>
    [
      `now${jobName === '' ? '' : ` in job ${jobName}`}: ${state}`,
      `${health.level} (${safeText(health.reason)})`,
      ...(hold === null || hold.detail === '' ? [] : [safeText(hold.detail)]),
      rttMs === null ? 'round trip unknown' : `round trip ${Math.round(rttMs)} ms`,
      `last seen ${formatDuration(lastSeenSeconds)} ago`,
    ].join(', '),
  );
}

/**
 * Returns a table of the bans that are in force; no lines if no ban is in force. A row has all names that the node has used.
 * @param former nodes that were removed, with their names
 * @param columns maximum length of a line
 */
export function banLines(
  bans: readonly BanView[],
  { former = [], columns }: { former?: readonly FormerPeer[]; columns?: number } = {},
): string[] {
  const namesOf = ({ peer, name }: BanView): string => {
    const all = [name ?? '', ...former.filter((one) => one.peer === peer).map((one) => one.name)];
    return [...new Set(all.filter((one) => one !== ''))].join(', ');
  };
  if (bans.length === 0) return [];
  return [
    '',
    ...table(
      [
        ['banned', 'person', 'from', 'until', 'reason'],
        ...bans.map((ban) => [
          nodeName({ peer: ban.peer, name: namesOf(ban) }),
          personText(ban),
          jobsOf(ban),
          endOf(ban),
          safeText(ban.reason),
        ]),
      ],
      { columns },
    ),
  ];
}

/** Returns the job from which a person is banned, by its name. */
function jobsOf({ job, jobName }: BanView): string {
  return job === null ? 'all jobs' : `job ${jobName === null ? job.slice(0, 12) : safeText(jobName)}`;
}

function personText({ peer, person, inviteName }: BanView): string {
  if (person === peer) return 'the node itself';
  return inviteName === null ? person : `${safeText(inviteName)} (${person})`;
}

/** Returns lines about a node: its bans, and for each job its standing, strikes, receipts with meanings, and scores. */
export function receiptLines({ peer, receipts, scores, standings, strikes, bans }: PeerReceipts): string[] {
  const names = new Set([...standings, ...strikes, ...receipts, ...scores].map(({ jobName }) => jobName));
  return [
    ...bans.map(banLine),
    ...[...names].flatMap((name) => {
      const inJob = <T extends { jobName: string }>(all: readonly T[]): T[] =>
        all.filter(({ jobName }) => jobName === name);
      return [
        ...inJob(standings).map(standingLine),
        ...section(`strikes in job ${name}, newest first`, inJob(strikes), (one) => strikeLines(one, peer)),
        ...section(`updates in job ${name}, newest first`, inJob(receipts), updateLines),
        ...section(
          `scores in job ${name}, newest first; effect, gain and exact effect in nats per token`,
          inJob(scores),
          scoreLines,
        ),
      ];
    }),
    ...(receipts.length > 0 ? [] : [`${peer} has sent no update yet`]),
  ];
}

function section<T>(title: string, all: readonly T[], linesOf: (one: T) => string[]): string[] {
  return all.length === 0 ? [] : [title, ...all.flatMap(linesOf)];
}

function updateLines(receipt: PeerReceipts['receipts'][number]): string[] {
  const { round, code, detail, meaning, isMerged, at } = receipt;
  const head = `${roundText(round)}  ${code.padEnd(14)}  ${new Date(at).toISOString()}`;
  // "merged" replaces the meaning of the code, which says that the update has not been merged yet.
  if (isMerged) return [`${head}  merged  ${safeText(detail)}`.trimEnd()];
  return [`${head}  ${safeText(detail)}`.trimEnd(), `${' '.repeat(MEANING_INDENT)}${meaning}`];
}

function scoreLines({ round, belief, share, effect, gain, exact }: PeerReceipts['scores'][number]): string[] {
  const facts = [
    roundText(round),
    `belief ${belief.toFixed(2)}`,
    `share ${share === null ? 'unknown' : share.toFixed(2)}`,
    ...(effect === null || gain === null
      ? []
      : [`effect ${effect.toPrecision(3)}`, `gain ${gain.toPrecision(3)}`]),
    ...(exact === null ? [] : [`exact ${exact.toPrecision(3)}`]),
  ];
  return [facts.join('  ')];
}

function banLine(ban: BanView): string {
  const until = ban.until === null ? 'for good' : `until ${endOf(ban)}`;
  const end = ban.pardonedAt === null ? '' : `, but pardoned ${new Date(ban.pardonedAt).toISOString()}`;
  const reason = ban.reason === '' ? '' : `: ${safeText(ban.reason)}`;
  return `banned ${new Date(ban.at).toISOString()} from ${jobsOf(ban)} ${until}${end}${reason}`;
}

function standingLine({ jobName, standing, untilRound, strikes, invite }: PeerStanding): string {
  const end = untilRound === null ? '' : ` up to round ${untilRound}`;
  const name = invite?.name ? ` ${safeText(invite.name)}` : '';
  const invited = invite === null ? '' : `; joined with the invite${name} (${invite.id})`;
  return `standing in job ${jobName}: ${standing}${end}, ${countOf(strikes, 'strike')}${invited}`;
}

/** @param peer the peer that the user asked about. A strike counts for the person, so it may be about another peer */
function strikeLines(strike: PeerStrike, peer: string): string[] {
  const { kind, meaning, round, foundIn, digest, figures, receipt, at, pardonedAt } = strike;
  const facts = [
    ...(strike.peer === peer ? [] : [`by ${shortPeer(strike.peer)}`]),
    ...(foundIn === round ? [] : [`found in round ${foundIn}`]),
    ...(digest === null ? [] : [`update ${digest.slice(0, 12)}`]),
    ...(receipt === null ? [] : [`receipt ${receipt}`]),
    ...Object.entries(figures).map(([name, value]) => `${name} ${value.toPrecision(3)}`),
    ...(pardonedAt === null ? [] : [`pardoned ${new Date(pardonedAt).toISOString()}`]),
  ];
  return [
    `${roundText(round)}  ${kind.padEnd(14)}  ${new Date(at).toISOString()}  ${facts.join(', ')}`.trimEnd(),
    `${' '.repeat(MEANING_INDENT)}${meaning}`,
  ];
}

function roundText(round: number): string {
  return `round ${String(round).padStart(4)}`;
}

function endOf({ until }: BanView): string {
  return until === null ? 'for good' : new Date(until).toISOString();
}
