import { html } from 'htm/preact';
import { formatCount } from '../../../common/text.ts';
import type { JobSummary } from '../../../protocol/api/coordinator.ts';
import type { PeerView } from '../../../protocol/api/peers.ts';
import { alertsOf, inJob } from '../../alerts.ts';
import { Mark } from '../parts/mark.ts';

/** Maximum number of alerts that are shown. All other unhealthy peers are marked in the tables of peers. */
const SHOWN = 10;

/** Lists the jobs and peers that need attention, with the reason and what to do. `lora-swarm top` has the same list. */
export function AlertsPart({ jobs, peers }: { jobs: readonly JobSummary[]; peers: readonly PeerView[] }) {
  const alerts = alertsOf(jobs, peers);
  const more = alerts.length - SHOWN;
  return html`<section class="alerts">
    <h2>Alerts</h2>
    ${alerts.length === 0 && html`<p class="quiet">No job or node needs attention.</p>`}
    <ul>
      ${alerts.slice(0, SHOWN).map(
        (alert) => html`<li key=${`${alert.job} ${alert.peer?.peer}`}>
          <${Mark} health=${alert} />
          <div>
            ${
              alert.peer === null
                ? html`<a href="#/jobs/${encodeURIComponent(alert.job)}">${alert.job}</a>`
                : html`<a href="#/peers/${encodeURIComponent(alert.peer.peer)}">${alert.peer.name}</a>${inJob(alert.job)}`
            }: ${alert.reason}
            <p class="quiet">What to do: ${alert.next}.</p>
          </div>
        </li>`,
      )}
    </ul>
    ${more > 0 && html`<p class="quiet">and ${formatCount(more)} more: see the peers of each job</p>`}
  </section>`;
}
