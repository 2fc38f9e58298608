import { html } from 'htm/preact';
import { formatCount, formatDuration, roundLeftText, roundText } from '../../../common/text.ts';
import type { JobDetail } from '../../../protocol/api/coordinator.ts';
import type { JobEvent } from '../../../protocol/api/job-events.ts';
import type { PeerView } from '../../../protocol/api/peers.ts';
import { progressOf } from '../../round-progress.ts';
import { Mark } from '../parts/mark.ts';

/** Phases of a round, in their order. */
const PHASES = ['waiting', 'training', 'collecting', 'validating', 'committing'] as const;
/** Maximum number of nodes that the timeline shows. The table of peers has the other nodes. */
const SHOWN = 24;

/** The round in progress: its phase, and for each assigned node whether it trains, has delivered or is waited for. */
export function RoundPart({
  job,
  peers,
  history,
}: {
  job: JobDetail;
  peers: readonly PeerView[];
  history: readonly JobEvent[];
}) {
  const { assigned, received } = job.updates;
  const opened = history.findLast((event) => event.type === 'round-opened' && event.round === job.round);
  const views = new Map(peers.map((view) => [view.peer, view]));
  const arrived = new Set(received);
  const rows = assigned.map((peer) => ({ peer, view: views.get(peer) ?? null }));
  // Nodes that the round waits for come first, because a list of hundreds of nodes does not fit on the
  // screen.
  rows.sort((a, b) => Number(arrived.has(a.peer)) - Number(arrived.has(b.peer)));
  return html`<section>
    <h2>R${roundText(job.round, job).slice(1)}</h2>
    <ol class="phases">
      ${PHASES.map((phase) => html`<li aria-current=${job.phase === phase ? 'step' : undefined}>${phase}</li>`)}
    </ol>
    <p>
      ${!job.health.reason.includes(job.reason) && html`${job.reason}. `}
      ${opened && job.phase !== 'finished' && html`Open for ${formatDuration((Date.now() - opened.at) / 1000)}. `}
      ${job.secondsLeft !== null && html`A${roundLeftText(job.secondsLeft).slice(1)}. `}
      ${assigned.length > 0 && html`${received.length} of ${assigned.length} updates have arrived.`}
    </p>
    <ul class="timeline">
      ${rows.slice(0, SHOWN).map(
        ({ peer, view }) => html`<li key=${peer}>
          <a href="#/peers/${encodeURIComponent(peer)}">${view?.name ?? peer.slice(-8)}</a>
          <${Share} view=${view} round=${job.round} delivered=${arrived.has(peer)} />
          ${view && html`<${Mark} health=${view.health} short />`}
        </li>`,
      )}
    </ul>
    ${rows.length > SHOWN && html`<p class="quiet">and ${formatCount(rows.length - SHOWN)} other nodes</p>`}
  </section>`;
}

interface ShareProps {
  readonly view: PeerView | null;
  readonly round: number;
  readonly delivered: boolean;
}

/** Shows what a node has done in the round: a bar of its steps, and its state in words. */
function Share({ view, round, delivered }: ShareProps) {
  const { done, words } = delivered ? { done: 1, words: 'delivered' } : progressOf(view, round);
  return html`<progress aria-hidden="true" max="1" value=${done}></progress> <span>${words}</span>`;
}
