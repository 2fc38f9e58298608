import { html } from 'htm/preact';
import { formatBytes, formatCount, formatDuration } from '../../../common/text.ts';
import type { BanView, PeerView as Peer, PeerReceipts, PeerStrike } from '../../../protocol/api/peers.ts';
import { post } from '../api.ts';
import { formatDate } from '../format.ts';
import { usePolled } from '../live.ts';
import { Confirm } from '../parts/confirm.ts';
import { Mark } from '../parts/mark.ts';
import { Failure, Loading } from '../parts/notice.ts';
import { type Column, Table } from '../parts/table.ts';
import { connectionOf } from './peers.ts';

type Receipt = PeerReceipts['receipts'][number];
type Score = PeerReceipts['scores'][number];

const RECEIPTS: readonly Column<Receipt>[] = [
  { title: 'Job', cell: ({ jobName }) => jobName, by: ({ jobName }) => jobName },
  { title: 'Round', cell: ({ round }) => round, by: ({ round }) => round, numeric: true },
  { title: 'Receipt', cell: ({ code }) => code, by: ({ code }) => code },
  {
    title: 'Meaning',
    cell: ({ meaning, isMerged, detail }) => {
      const text = isMerged ? 'merged' : meaning;
      return detail === '' ? text : `${text}: ${detail}`;
    },
  },
  { title: 'Time', cell: ({ at }) => formatDate(at), by: ({ at }) => at },
];

const SCORES: readonly Column<Score>[] = [
  { title: 'Job', cell: ({ jobName }) => jobName, by: ({ jobName }) => jobName },
  { title: 'Round', cell: ({ round }) => round, by: ({ round }) => round, numeric: true },
  { title: 'Belief', cell: ({ belief }) => belief.toFixed(2), by: ({ belief }) => belief, numeric: true },
  {
    title: 'Share',
    cell: ({ share }) => share?.toFixed(2) ?? '–',
    by: ({ share }) => share ?? -1,
    numeric: true,
  },
  { title: 'Effect', cell: ({ effect }) => effect?.toFixed(5) ?? '–', numeric: true },
  { title: 'Gain', cell: ({ gain }) => gain?.toFixed(5) ?? '–', numeric: true },
];

const STRIKES: readonly Column<PeerStrike>[] = [
  { title: 'Job', cell: ({ jobName }) => jobName, by: ({ jobName }) => jobName },
  { title: 'Round', cell: ({ round }) => round, by: ({ round }) => round, numeric: true },
  { title: 'Misdeed', cell: ({ kind }) => kind, by: ({ kind }) => kind },
  { title: 'Meaning', cell: ({ meaning }) => meaning },
  { title: 'Figures', cell: ({ figures }) => figuresOf(figures) },
  { title: 'Pardoned', cell: ({ pardonedAt }) => (pardonedAt === null ? 'no' : formatDate(pardonedAt)) },
];

const BANS: readonly Column<BanView>[] = [
  {
    title: 'From',
    cell: ({ job, jobName }) => (job === null ? 'all jobs' : `job ${jobName ?? job.slice(0, 12)}`),
  },
  { title: 'Cause', cell: ({ cause }) => cause },
  { title: 'Reason', cell: ({ reason }) => reason },
  { title: 'Since', cell: ({ at }) => formatDate(at), by: ({ at }) => at },
  { title: 'Until', cell: ({ until }) => (until === null ? 'for good' : formatDate(until)) },
  { title: 'Pardoned', cell: ({ pardonedAt }) => (pardonedAt === null ? 'no' : formatDate(pardonedAt)) },
];

/** Everything that the coordinator knows about one peer, and the actions that the operator can take. */
export function PeerView({ peer }: { peer: string }) {
  const known = usePolled<PeerReceipts>(`/v1/peers/${encodeURIComponent(peer)}`);
  const all = usePolled<{ peers: Peer[] }>('/v1/peers');
  const views = (all.data?.peers ?? []).filter((one) => one.peer === peer);
  if (known.data === null)
    return known.error ? html`<${Failure} error=${known.error} />` : html`<${Loading} what="the peer" />`;
  const { receipts, scores, strikes, bans, standings } = known.data;
  const refresh = (): void => {
    known.refresh();
    all.refresh();
  };
  const path = `/v1/peers/${encodeURIComponent(peer)}`;
  return html`<h1>${views[0]?.name ?? bans.find((ban) => ban.peer === peer)?.name ?? 'A former peer'}</h1>
    <p><code class="long">${peer}</code></p>
    <${Failure} error=${known.error} />
    ${views.map((view) => html`<${InJob} key=${view.job} view=${view} />`)}
    ${standings.map(
      ({ jobName, standing, untilRound, strikes: count, invite }) => html`<p>
        Standing in ${jobName}: ${standing}${untilRound !== null && `, up to round ${untilRound}`} (${count}
        ${' '}${count === 1 ? 'strike' : 'strikes'})${invite !== null && html`. Joined with the personal invite ${invite.name ?? 'without a name'} (<code>${invite.id}</code>)`}
      </p>`,
    )}
    <div class="buttons">
      <${Confirm}
        label="Ban"
        danger
        effect="The peer, and all peers of the same person, are removed from all jobs and cannot join again until you pardon them."
        inputLabel="Reason, which the peer sees"
        act=${(reason: string) => post(`${path}/ban`, { reason })}
        onDone=${refresh}
      />
      <${Confirm}
        label="Pardon"
        effect="All strikes and bans of the person behind this peer are lifted in all jobs."
        act=${() => post(`${path}/pardon`, {})}
        onDone=${refresh}
      />
    </div>
    <${Part} title="Strikes" columns=${STRIKES} rows=${strikes} empty="No strikes." />
    <${Part} title="Bans" columns=${BANS} rows=${bans} empty="No bans." />
    <${Part} title="Scores" columns=${SCORES} rows=${scores} empty="No update of this peer has been scored." />
    <${Part} title="Receipts" columns=${RECEIPTS} rows=${receipts} empty="This peer has no receipts." />`;
}

function InJob({ view }: { view: Peer }) {
  return html`<section>
    <h2>${
      view.jobName === ''
        ? 'In no job'
        : html`In <a href="#/jobs/${encodeURIComponent(view.jobName)}">${view.jobName}</a>`
    } <${Mark} health=${view.health} /></h2>
    <p>${view.health.reason}${view.hold !== null && view.hold.detail !== '' && ` (${view.hold.detail})`}</p>
    <dl class="facts">
      <dt>Role</dt>
      <dd>${view.role}</dd>
      <dt>Engine</dt>
      <dd>${view.engine}, ${formatCount(view.tokensPerSecond)} tokens/s</dd>
      <dt>Connection</dt>
      <dd>${connectionOf(view)}${view.address !== null && html` <code class="long">${view.address}</code>`}</dd>
      <dt>Round trip</dt>
      <dd>${view.rttMs === null ? 'not measured' : `${Math.round(view.rttMs)} ms`}</dd>
      <dt>Last seen</dt>
      <dd>${formatDuration(view.lastSeenSeconds)} ago</dd>
      <dt>Updates</dt>
      <dd>${view.accepted} accepted, ${view.refused} refused, ${view.unmerged} not merged</dd>
      <dt>Traffic</dt>
      <dd>sent ${formatBytes(view.bytesSent)}, received ${formatBytes(view.bytesReceived)}</dd>
    </dl>
  </section>`;
}

interface PartProps<T> {
  readonly title: string;
  readonly columns: readonly Column<T>[];
  readonly rows: readonly T[];
  readonly empty: string;
}

function Part<T>({ title, columns, rows, empty }: PartProps<T>) {
  const id = (row: T): string => String(rows.indexOf(row));
  return html`<section>
    <h2>${title}</h2>
    <${Table} caption=${title} columns=${columns} rows=${rows} id=${id} empty=${empty} />
  </section>`;
}

function figuresOf(figures: Record<string, number>): string {
  return Object.entries(figures)
    .map(([name, value]) => `${name} ${Number(value.toPrecision(4))}`)
    .join(', ');
}
