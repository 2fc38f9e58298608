import { html } from 'htm/preact';
import { useEffect, useMemo, useState } from 'preact/hooks';
import { formatDuration } from '../../../common/text.ts';
import type { JobDetail } from '../../../protocol/api/coordinator.ts';
import type { JobEvent } from '../../../protocol/api/job-events.ts';
import type { PeerView } from '../../../protocol/api/peers.ts';
import { type JobMoment, momentAfter, NO_MOMENT, STATE_EVENTS } from '../../replay.ts';
import { momentBefore } from '../../round-end.ts';
import { type ApiError, jobPath, lines } from '../api.ts';
import { formatDate } from '../format.ts';
import { useEvents } from '../live.ts';
import { Failure, Loading } from '../parts/notice.ts';
import { EventTable } from './events.ts';
import { MomentFacts } from './moment.ts';

/** Maximum number of events of one round that are loaded. */
const ROUND_EVENTS = 5_000;

/** Types of events from which the state at the beginning of a round follows. */
const STATE_FILTER = `types=${STATE_EVENTS.join(',')}`;
/** Maximum number of these events that the page keeps. It is enough for 10,000 rounds with 6 events each. */
const KEPT_STATES = 60_000;

interface ReplayProps {
  readonly job: JobDetail;
  readonly peers: readonly PeerView[];
}

/** Shows the state of the job at any past moment. The user chooses a round, and then a moment of this round. */
export function ReplayPart({ job, peers }: ReplayProps) {
  const { events: history, error } = useEvents(job.job, STATE_FILTER, KEPT_STATES);
  const rounds = useMemo(() => history.filter(({ type }) => type === 'round-opened'), [history]);
  const [chosen, setChosen] = useState<number | null>(null);
  const at = Math.min(chosen ?? rounds.length - 1, rounds.length - 1);
  const opened = rounds[at];
  const before = useMemo(
    () => history.filter(({ sequence }) => sequence < (opened?.sequence ?? 0)).reduce(momentAfter, NO_MOMENT),
    [history, opened?.sequence],
  );
  if (opened?.type !== 'round-opened')
    return error ? html`<${Failure} error=${error} />` : html`<p class="quiet">No round has opened yet.</p>`;
  return html`<section>
    <h2>Replay</h2>
    <label
      >Round ${opened.round}, opened ${formatDate(opened.at)}
      <input
        type="range"
        min="0"
        max=${rounds.length - 1}
        value=${at}
        onInput=${(event: InputEvent) => setChosen(Number((event.target as HTMLInputElement).value))}
    /></label>
    <${Moments} key=${opened.sequence} job=${job} peers=${peers} before=${before} from=${opened.sequence} next=${rounds[at + 1] ?? null} />
  </section>`;
}

interface MomentsProps {
  readonly job: JobDetail;
  readonly peers: readonly PeerView[];
  /** State of the job before the round opened. */
  readonly before: JobMoment;
  /** Sequence number of the event that opened the round. */
  readonly from: number;
  /** The event that opened the next round; null for the newest round. */
  readonly next: JobEvent | null;
}

function Moments({ job, peers, before, from, next }: MomentsProps) {
  const to = next?.sequence ?? null;
  const [events, setEvents] = useState<readonly JobEvent[] | null>(null);
  const [error, setError] = useState<ApiError | null>(null);
  const [moment, setMoment] = useState<number | null>(null);
  useEffect(() => {
    const ended = new AbortController();
    const load = async (): Promise<void> => {
      const limit = to === null ? ROUND_EVENTS : Math.min(ROUND_EVENTS, to - from);
      const found: JobEvent[] = [];
      const path = `${jobPath(job.job)}/events?after=${from - 1}&limit=${limit}`;
      for await (const event of lines<JobEvent>(path, ended.signal)) found.push(event);
      setEvents(found);
    };
    load().catch((failure: unknown) => {
      if (!ended.signal.aborted) setError(failure as ApiError);
    });
    return () => ended.abort();
  }, [job.job, from, to]);
  if (error !== null) return html`<${Failure} error=${error} />`;
  if (events === null) return html`<${Loading} what="the round" />`;
  const last = Math.min(moment ?? events.length - 1, events.length - 1);
  const shown = events.slice(0, last + 1);
  const after = (events[last]!.at - events[0]!.at) / 1000;
  const found = shown.reduce(momentAfter, before);
  const isAtEnd = next !== null && next.sequence === found.sequence + 1;
  return html`<label
      >Moment: ${formatDuration(after)} after the round opened
      <input
        type="range"
        min="0"
        max=${events.length - 1}
        value=${last}
        onInput=${(event: InputEvent) => setMoment(Number((event.target as HTMLInputElement).value))}
    /></label>
    <${MomentFacts} moment=${isAtEnd ? momentBefore(next, found) : found} names=${new Map(peers.map(({ peer, name }) => [peer, name]))} />
    <${EventTable} events=${shown} peers=${peers} />`;
}
