import { formatBytes, formatCount, formatDuration, safeText, table } from '../../common/text.ts';
import type { PeerReceipts, PeerView } from '../../index.ts';
import { SWARM } from '../command-name.ts';
import { nodeName } from './events.ts';

/** States of a node that has left or stopped sending heartbeats. */
const GONE: readonly string[] = ['left', 'lost'];

/**
 * A table of the nodes of all jobs. Nodes that are gone come last. The column `accepted` has the number of a node's
 * accepted updates and the number of all its updates. An update that the merge of its round left out does not count as
 * accepted. The column `belief` has the factor, from 0 to 1, by which the weight of the node's updates is multiplied.
 */
export function peerLines(peers: readonly PeerView[]): string[] {
  if (peers.length === 0)
    return ['no node has joined yet', `next: on another machine, run ${SWARM} node - and paste the invite`];
  const here = peers.filter(({ state }) => !GONE.includes(state));
  const gone = peers.filter(({ state }) => GONE.includes(state));
  return table([
    [
      'node',
      'job',
      'state',
      'round',
      'tokens/s',
      'accepted',
      'belief',
      'sent',
      'round trip',
      'last seen',
      'last update',
    ],
    ...[...here, ...gone].map(peerRow),
  ]);
}

function peerRow(peer: PeerView): string[] {
  const gone = GONE.includes(peer.state);
  const progress = peer.steps > 0 ? `${peer.round} (${peer.step}/${peer.steps})` : String(peer.round);
  return [
    nodeName(peer),
    peer.jobName,
    [
      peer.state,
      ...(peer.role === 'contributor' ? [] : [peer.role]),
      ...(gone || peer.connected ? [] : ['not connected']),
    ].join(', '),
    gone ? '–' : progress,
    formatCount(peer.tokensPerSecond),
    `${peer.accepted}/${peer.accepted + peer.refused}`,
    peer.score === null ? '–' : peer.score.belief.toFixed(2),
    gone ? '–' : formatBytes(peer.bytesSent),
    peer.rttMs === null ? '–' : `${Math.round(peer.rttMs)} ms`,
    `${formatDuration(peer.lastSeenSeconds)} ago`,
    peer.last === null ? '' : peer.last.code,
  ];
}

/** The receipts of a node with their meanings, and then the scores of its updates. Newest first. */
export function receiptLines({ peer, receipts, scores }: PeerReceipts): string[] {
  if (receipts.length === 0) return [`${peer} has sent no update yet`];
  return [
    `updates of ${peer}, newest first`,
    ...receipts.flatMap(({ round, code, detail, meaning, at }) => [
      `round ${String(round).padStart(4)}  ${code.padEnd(14)}  ${new Date(at).toISOString()}  ${safeText(detail)}`.trimEnd(),
      `            ${meaning}`,
    ]),
    ...(scores.length > 0 ? [`scores of ${peer}, newest first; effect and gain in nats per token`] : []),
    ...scores.map(
      ({ round, belief, share, effect, gain }) =>
        `round ${String(round).padStart(4)}  belief ${belief.toFixed(2)}  share ${share === null ? 'unknown' : share.toFixed(2)}` +
        (effect === null || gain === null
          ? ''
          : `  effect ${effect.toPrecision(3)}  gain ${gain.toPrecision(3)}`),
    ),
  ];
}
