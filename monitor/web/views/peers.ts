import { html } from 'htm/preact';
import { useMemo } from 'preact/hooks';
import { formatBytes, formatCount, formatDuration } from '../../../common/text.ts';
import type { PeerView } from '../../../protocol/api/peers.ts';
import { roundWithSteps } from '../../round-progress.ts';
import { Mark } from '../parts/mark.ts';
import { type Column, Table } from '../parts/table.ts';

const LEVELS = ['red', 'yellow', 'green', 'grey'];

const COLUMNS: readonly Column<PeerView>[] = [
  {
    title: 'Health',
    cell: ({ health }) => html`<${Mark} health=${health} />`,
    by: ({ health }) => LEVELS.indexOf(health.level),
  },
  {
    title: 'Name',
    cell: ({ peer, name }) => html`<a href="#/peers/${encodeURIComponent(peer)}">${name}</a>`,
    by: ({ name }) => name,
    long: true,
  },
  { title: 'What it does', cell: ({ health }) => health.reason, by: ({ state }) => state },
  {
    title: 'Round',
    cell: roundWithSteps,
    by: ({ round }) => round,
  },
  {
    title: 'Tokens/s',
    cell: ({ tokensPerSecond }) => formatCount(tokensPerSecond),
    by: ({ tokensPerSecond }) => tokensPerSecond,
    numeric: true,
  },
  {
    title: 'Accepted',
    cell: ({ accepted, refused, unmerged }) => `${accepted} of ${accepted + refused + unmerged}`,
    by: ({ accepted }) => accepted,
    numeric: true,
  },
  {
    title: 'Tokens',
    cell: ({ tokens }) => formatCount(tokens),
    by: ({ tokens }) => tokens,
    numeric: true,
  },
  {
    title: 'Belief',
    cell: ({ score }) => (score === null ? '–' : score.belief.toFixed(2)),
    by: ({ score }) => score?.belief ?? -1,
    numeric: true,
  },
  { title: 'Standing', cell: ({ standing }) => standing, by: ({ standing }) => standing },
  { title: 'Strikes', cell: ({ strikes }) => strikes, by: ({ strikes }) => strikes, numeric: true },
  { title: 'Engine', cell: ({ engine }) => engine, by: ({ engine }) => engine },
  {
    title: 'Connection',
    cell: (peer) =>
      peer.rttMs === null ? connectionOf(peer) : `${connectionOf(peer)}, ${Math.round(peer.rttMs)} ms`,
    by: ({ rttMs }) => rttMs ?? Number.POSITIVE_INFINITY,
  },
  {
    title: 'Sent',
    cell: ({ bytesSent }) => formatBytes(bytesSent),
    by: ({ bytesSent }) => bytesSent,
    numeric: true,
  },
  {
    title: 'Last seen',
    cell: ({ lastSeenSeconds }) => `${formatDuration(lastSeenSeconds)} ago`,
    by: ({ lastSeenSeconds }) => lastSeenSeconds,
  },
];

/** The table of a job's peers, with those that need attention first. */
export function PeersPart({ peers }: { peers: readonly PeerView[] }) {
  const rows = useMemo(
    () => [...peers].sort((a, b) => LEVELS.indexOf(a.health.level) - LEVELS.indexOf(b.health.level)),
    [peers],
  );
  return html`<section>
    <h2>Peers</h2>
    <${Table}
      caption="Peers"
      columns=${COLUMNS}
      rows=${rows}
      id=${(peer: PeerView) => `${peer.job} ${peer.peer}`}
      text=${(peer: PeerView) => `${peer.name} ${peer.peer} ${peer.state} ${peer.engine} ${peer.standing}`}
      empty="No node has joined yet."
    />
  </section>`;
}

/** Returns how the coordinator is connected to a peer. */
export function connectionOf({ connected, address }: PeerView): string {
  if (!connected) return 'none';
  return address?.includes('/p2p-circuit') ? 'relayed' : 'direct';
}
