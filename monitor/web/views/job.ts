import { html } from 'htm/preact';
import { useMemo, useRef } from 'preact/hooks';
import { formatDuration, formatLoss } from '../../../common/text.ts';
import type { JobDetail } from '../../../protocol/api/coordinator.ts';
import type { JobEvent } from '../../../protocol/api/job-events.ts';
import type { PeerView } from '../../../protocol/api/peers.ts';
import { bestText } from '../../best-text.ts';
import { ordersText } from '../../pending-orders.ts';
import { jobPath, post } from '../api.ts';
import { useEvents, usePolled } from '../live.ts';
import { Confirm } from '../parts/confirm.ts';
import { Mark } from '../parts/mark.ts';
import { Failure, Loading } from '../parts/notice.ts';
import { Progress } from '../parts/progress.ts';
import { AlertsPart } from './alerts.ts';
import { CheckpointsPart } from './checkpoints.ts';
import { EventsPart } from './events.ts';
import { HistoryCharts } from './history.ts';
import { PeersPart } from './peers.ts';
import { ReplayPart } from './replay.ts';
import { RoundPart } from './round.ts';
import { SamplesPart } from './samples.ts';
import { SettingsPart } from './settings.ts';

/** Types of events that the charts need. They leave out updates and arrivals, because a job has too many of them. */
const HISTORY = 'types=round-opened,checkpoint,null-round,rolled-back,tasks-evaluated,finished';
/** Maximum number of events that the page keeps for the charts. It is enough for 10,000 rounds with 3 events each. */
const KEPT_HISTORY = 30_000;

const PARTS = [
  { part: '', title: 'Overview' },
  { part: 'peers', title: 'Peers' },
  { part: 'checkpoints', title: 'Checkpoints' },
  { part: 'samples', title: 'Samples' },
  { part: 'events', title: 'Events' },
  { part: 'replay', title: 'Replay' },
  { part: 'settings', title: 'Settings' },
];

interface JobViewProps {
  readonly job: string;
  /** Name of the part of the view that is shown: one of PARTS. */
  readonly part: string;
  /** Called after the user has changed the state of the job with this view. */
  onChange(): void;
}

/** A job: its state, charts, peers, checkpoints and events, and what its operator can do. */
export function JobView({ job: name, part, onChange }: JobViewProps) {
  const { data: job, error, refresh } = usePolled<JobDetail>(jobPath(name));
  const peers = usePolled<{ peers: PeerView[] }>('/v1/peers');
  // The history of a long job takes a while to read, so it is requested by the first part that shows it.
  const needsHistory = useRef(false);
  needsHistory.current ||= part === '';
  const { events: history } = useEvents(name, needsHistory.current ? HISTORY : null, KEPT_HISTORY);
  const own = useMemo(
    () =>
      // A node of another version cannot say which job it wants to join, so each job shows it.
      (peers.data?.peers ?? []).filter((peer) => peer.job === job?.job || peer.job === ''),
    [peers.data, job?.job],
  );
  if (job === null) return error ? html`<${Failure} error=${error} />` : html`<${Loading} what="the job" />`;
  const changed = (): void => {
    refresh();
    onChange();
  };
  const href = (to: string) => `#/jobs/${encodeURIComponent(name)}${to === '' ? '' : `/${to}`}`;
  return html`<h1>${job.name} <${Mark} health=${job.health} /></h1>
    <p>${job.health.reason}</p>
    ${job.pendingOrders.length > 0 && html`<p role="status">The job ${ordersText(job)}.</p>`}
    <${Failure} error=${error} />
    <nav class="parts" aria-label="Parts of the job">
      ${PARTS.map(
        (one) =>
          html`<a href=${href(one.part)} aria-current=${one.part === part ? 'page' : undefined}>${one.title}</a>`,
      )}
    </nav>
    ${partOf(part, { job, peers: own, history, onChange: changed })}`;
}

interface PartProps {
  readonly job: JobDetail;
  readonly peers: readonly PeerView[];
  readonly history: readonly JobEvent[];
  onChange(): void;
}

function partOf(part: string, props: PartProps) {
  const { job, peers, onChange } = props;
  switch (part) {
    case 'peers':
      return html`<${PeersPart} peers=${peers} />`;
    case 'checkpoints':
      return html`<${CheckpointsPart} job=${job} onChange=${onChange} />`;
    case 'samples':
      return html`<${SamplesPart} job=${job} />`;
    case 'events':
      return html`<${EventsPart} job=${job} peers=${peers} />`;
    case 'replay':
      return html`<${ReplayPart} job=${job} peers=${peers} />`;
    case 'settings':
      return html`<${SettingsPart} job=${job} onChange=${onChange} />`;
    default:
      return html`<${OverviewPart} ...${props} />`;
  }
}

function OverviewPart({ job, peers, history, onChange }: PartProps) {
  const left = timeLeft(history, job);
  const isOver = job.phase === 'finished';
  return html`<section>
      <${Progress} label="Rounds of ${job.name}" done=${job.roundsDone} total=${job.rounds} unit="rounds" />
      <dl class="facts">
        <dt>Held-out loss</dt>
        <dd>${formatLoss(job.heldOutLoss)} (initial adapter ${formatLoss(job.baseLoss)})</dd>
        <dt>Best checkpoint</dt>
        <dd>${bestText(job) ?? 'none yet'}</dd>
        ${
          !isOver &&
          html`<dt>Time left</dt>
            <dd>${left === null ? 'not known yet' : `about ${formatDuration(left)}`}</dd>`
        }
        <dt>Speed</dt>
        <dd>${Math.round(job.tokensPerSecond).toLocaleString('en-US')} tokens/s in the newest round</dd>
      </dl>
      <${Steering} job=${job} onChange=${onChange} />
    </section>
    <${AlertsPart} jobs=${[job]} peers=${peers} />
    <${RoundPart} job=${job} peers=${peers} history=${history} />
    <${HistoryCharts} history=${history} tasks=${job.tasks} />
    ${!isOver && html`<${Invite} invite=${job.invite} />`}`;
}

function Invite({ invite }: { invite: string | null }) {
  return html`<section>
    <h2>Invite</h2>
    ${
      invite === null
        ? html`<p>The shared invite is revoked.</p>`
        : html`<p>On another machine, run <code>lora-swarm node -</code> and paste this invite:</p>
            <p><code class="long">${invite}</code></p>`
    }
  </section>`;
}

/** Buttons for the actions that the operator can take on the job now. */
function Steering({ job, onChange }: { job: JobDetail; onChange(): void }) {
  const act = (action: string) => (reason: string) => post(`${jobPath(job.job)}/${action}`, { reason });
  const resume = () => post(`${jobPath(job.job)}/resume`, {});
  const inputLabel = 'Reason, which the nodes see';
  const isPending = (action: string) => job.pendingOrders.some((order) => order.action === action);
  // A stop cannot be cancelled, and ends the job even if other orders are pending.
  if (job.phase === 'finished' || isPending('stop')) return null;
  return html`<div class="buttons">
    ${
      job.phase === 'paused' || isPending('pause')
        ? html`<${Confirm}
            key="resume"
            label=${job.phase === 'paused' ? 'Resume' : 'Cancel the pause'}
            effect=${job.phase === 'paused' ? 'The job opens its next round.' : 'The job continues after the round in progress.'}
            act=${resume}
            onDone=${onChange}
          />`
        : html`<${Confirm}
            key="pause"
            label="Pause"
            effect="The job merges the updates of the open round, and then waits until it is resumed."
            inputLabel=${inputLabel}
            act=${act('pause')}
            onDone=${onChange}
          />`
    }
    <${Confirm}
      label="Stop"
      danger
      effect="The job merges the updates of the open round and ends for good. Its checkpoints stay."
      inputLabel=${inputLabel}
      act=${act('stop')}
      onDone=${onChange}
    />
  </div>`;
}

/** Number of newest rounds from which the time left is estimated. */
const ESTIMATE_ROUNDS = 10;

/**
 * Estimates the seconds until the job ends, from the times of its newest checkpoints; null if the job has
 * fewer than two checkpoints.
 */
function timeLeft(history: readonly JobEvent[], job: JobDetail): number | null {
  const times = history
    .flatMap(({ type, at }) => (type === 'checkpoint' ? [at] : []))
    .slice(-ESTIMATE_ROUNDS - 1);
  if (times.length < 2 || job.phase === 'finished' || job.phase === 'paused') return null;
  const perRound = (times.at(-1)! - times[0]!) / (times.length - 1) / 1000;
  return perRound * (job.rounds - job.roundsDone);
}
