import type { PeerReceipts, PeerView } from '../../coordinator/api-types.ts';
import { formatBytes, formatCount, formatDuration, safeText, table } from '../../monitor/text.ts';
import { shortPeer } from '../../protocol/ids.ts';

/** All nodes of all jobs, one line each. */
export function peerLines(peers: readonly PeerView[]): string[] {
  if (peers.length === 0) return ['no node has joined yet', 'next: on another machine: swarm node INVITE'];
  const rows = peers.map((peer) => [
    label(peer),
    peer.jobName,
    peer.connected ? peer.state : `${peer.state}, not connected`,
    peer.steps > 0 ? `${peer.round} (${peer.step}/${peer.steps})` : String(peer.round),
    formatCount(peer.tokensPerSecond),
    `${peer.accepted}/${peer.accepted + peer.refused}`,
    formatBytes(peer.bytesSent),
    peer.rttMs === null ? '–' : `${Math.round(peer.rttMs)} ms`,
    `${formatDuration(peer.lastSeenSeconds)} ago`,
    peer.last === null ? '' : peer.last.code,
  ]);
  return table([
    ['node', 'job', 'state', 'round', 'tokens/s', 'accepted', 'sent', 'rtt', 'seen', 'last update'],
    ...rows,
  ]);
}

function label({ name, peer }: PeerView): string {
  return name === '' ? shortPeer(peer) : `${safeText(name, { maxCharacters: 24 })} ${shortPeer(peer)}`;
}

/** Every receipt of a node, newest first, each with what it means. */
export function receiptLines({ peer, receipts }: PeerReceipts): string[] {
  if (receipts.length === 0) return [`${peer} has sent no update yet`];
  return [
    `updates of ${peer}, newest first`,
    ...receipts.flatMap(({ round, code, detail, meaning, at }) => [
      `round ${String(round).padStart(4)}  ${code.padEnd(14)}  ${new Date(at).toISOString()}  ${safeText(detail)}`.trimEnd(),
      `            ${meaning}`,
    ]),
  ];
}
