import { html } from 'htm/preact';
import { formatBytes, formatDuration, formatLoss } from '../../../common/text.ts';
import type { CoordinatorStatus, JobSummary } from '../../../protocol/api/coordinator.ts';
import type { PeerView } from '../../../protocol/api/peers.ts';
import { ordersText } from '../../pending-orders.ts';
import { usePolled } from '../live.ts';
import { Mark } from '../parts/mark.ts';
import { Progress } from '../parts/progress.ts';
import { AlertsPart } from './alerts.ts';
import { SweepsPart } from './sweeps.ts';

/** Shows all jobs of a coordinator. */
export function OverviewView({ status }: { status: CoordinatorStatus }) {
  const { jobs, traffic } = status;
  const peers = usePolled<{ peers: PeerView[] }>('/v1/peers').data?.peers;
  return html`<h1>Jobs</h1>
    ${
      jobs.length === 0 &&
      html`<p>
        There are no jobs yet. <a href="#/new">Create one here</a>, or with <code>lora-swarm job create FILE.yaml</code>.
      </p>`
    }
    <ul class="cards">
      ${jobs.map((job) => html`<li key=${job.job}><${JobCard} job=${job} /></li>`)}
    </ul>
    ${peers && jobs.length > 0 && html`<${AlertsPart} jobs=${jobs} peers=${peers} />`}
    <${SweepsPart} />
    <p class="quiet">
      Up for ${formatDuration(status.uptimeSeconds)}, sent ${formatBytes(traffic.sent)}, received${' '}
      ${formatBytes(traffic.received)}, peer id <code class="long">${status.peerId}</code>
    </p>`;
}

function JobCard({ job }: { job: JobSummary }) {
  return html`<article>
    <h2><a href="#/jobs/${encodeURIComponent(job.name)}">${job.name}</a> <${Mark} health=${job.health} /></h2>
    <p>${job.health.reason}${job.pendingOrders.length > 0 && html`; ${ordersText(job)}`}</p>
    <${Progress} label="Rounds of ${job.name}" done=${job.roundsDone} total=${job.rounds} unit="rounds" />
    <p>
      Held-out loss ${formatLoss(job.heldOutLoss ?? job.baseLoss)}${
        job.lowestLoss !== null && html`, lowest ${formatLoss(job.lowestLoss)}`
      }, ${job.peers} ${job.peers === 1 ? 'node' : 'nodes'}
    </p>
  </article>`;
}
