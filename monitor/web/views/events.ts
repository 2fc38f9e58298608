import { html } from 'htm/preact';
import { useState } from 'preact/hooks';
import type { JobDetail } from '../../../protocol/api/coordinator.ts';
import type { JobEvent } from '../../../protocol/api/job-events.ts';
import type { PeerView } from '../../../protocol/api/peers.ts';
import { formatDate } from '../format.ts';
import { useEvents } from '../live.ts';
import { Failure } from '../parts/notice.ts';
import { type Column, Table } from '../parts/table.ts';

/** Number of newest events that the page loads and keeps. */
const KEPT = 2_000;

/** Groups of events that the user can choose. */
const GROUPS: readonly { title: string; types: readonly JobEvent['type'][] }[] = [
  { title: 'All', types: [] },
  {
    title: 'Rounds',
    types: ['round-opened', 'round-closed', 'checkpoint', 'null-round', 'rolled-back', 'scored'],
  },
  { title: 'Peers', types: ['peer-joined', 'peer-held', 'peer-lost', 'duplicate-identity'] },
  { title: 'Updates', types: ['update', 'update-undone'] },
  {
    title: 'Trust',
    types: ['struck', 'suspended', 'banned', 'pardoned', 'shared-fault', 'audited', 'audit-dropped'],
  },
  {
    title: 'Job',
    types: [
      'job-created',
      'queued',
      'unqueued',
      'settings-changed',
      'tasks-evaluated',
      'tasks-failed',
      'tasks-changed',
      'sweep-won',
      'sweep-failed',
      'sampled',
      'samples-failed',
      'priority-changed',
      'paused',
      'resumed',
      'finished',
      'scoring-failed',
      'scorer-failed',
      'evaluation-fallback',
      'caught-up',
      'clock-set',
      'blob-damaged',
      'blob-repaired',
    ],
  },
];

/** The newest events of a job, live, with a filter. */
export function EventsPart({ job, peers }: { job: JobDetail; peers: readonly PeerView[] }) {
  const [group, setGroup] = useState(0);
  const { types } = GROUPS[group]!;
  const filter = types.length === 0 ? `last=${KEPT}` : `types=${types.join(',')}`;
  const { events, error } = useEvents(job.job, filter, KEPT);
  return html`<section>
    <h2>Events</h2>
    <${Failure} error=${error} />
    <fieldset class="groups">
      <legend>Show</legend>
      ${GROUPS.map(
        ({ title }, i) => html`<label
          ><input type="radio" name="group" checked=${i === group} onChange=${() => setGroup(i)} /> ${title}</label
        >`,
      )}
    </fieldset>
    <${EventTable} events=${events} peers=${peers} />
  </section>`;
}

/** A table of events, newest first. */
export function EventTable({ events, peers }: { events: readonly JobEvent[]; peers: readonly PeerView[] }) {
  const names = new Map(peers.map(({ peer, name }) => [peer, name]));
  const columns: readonly Column<JobEvent>[] = [
    { title: 'Time', cell: ({ at }) => formatDate(at), by: ({ sequence }) => sequence },
    { title: 'Event', cell: ({ type }) => type, by: ({ type }) => type },
    { title: 'Facts', cell: (event) => factsOf(event, names) },
  ];
  return html`<${Table}
    caption="Events"
    columns=${columns}
    rows=${events.toReversed()}
    id=${({ sequence }: JobEvent) => String(sequence)}
    text=${(event: JobEvent) => `${event.type} ${factsOf(event, names)}`}
    empty="There are no such events yet."
  />`;
}

/** Returns the facts of an event in words, with the names of peers instead of their ids. */
function factsOf(event: JobEvent, names: ReadonlyMap<string, string>): string {
  const { sequence: _, at: __, job: ___, type: ____, ...facts } = event;
  return Object.entries(facts)
    .filter(([, value]) => value !== null && value !== '')
    .map(([name, value]) => `${wordsOf(name)} ${textOf(name, value, names)}`)
    .join(', ');
}

/** "heldOutLoss" becomes "held out loss". */
function wordsOf(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
}

function textOf(name: string, value: unknown, names: ReadonlyMap<string, string>): string {
  if (name === 'peer' || name === 'scorer') return names.get(String(value)) ?? `…${String(value).slice(-8)}`;
  if (name === 'digest') return String(value).slice(0, 8);
  if (name === 'until' && Number(value) > 1e12) return formatDate(Number(value));
  if (typeof value === 'number' && !Number.isInteger(value)) return String(Number(value.toPrecision(5)));
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}
