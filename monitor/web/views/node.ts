import { html } from 'htm/preact';
import { formatBytes, formatCount, formatDuration, formatLoss, formatPercent } from '../../../common/text.ts';
import type { NodeJobStatus, NodeStatus, NodeUpdate } from '../../../protocol/api/node.ts';
import { describeNode, problemText, standingText } from '../../node-state.ts';
import { costText, monthText, outcomeText, settingsText, speedText, totalsText } from '../../node-work.ts';
import { formatDate } from '../format.ts';
import { Progress } from '../parts/progress.ts';
import { type Column, Table } from '../parts/table.ts';
import { NodeLimits, NodeOrders } from './node-control.ts';

type Row = NodeUpdate & { jobName: string; isJobOver: boolean };

const UPDATES: readonly Column<Row>[] = [
  { title: 'Job', cell: ({ jobName }) => jobName, by: ({ jobName }) => jobName },
  { title: 'Round', cell: ({ round }) => round, by: ({ round }) => round, numeric: true },
  { title: 'Size', cell: ({ bytes }) => formatBytes(bytes), by: ({ bytes }) => bytes, numeric: true },
  {
    title: 'Outcome',
    cell: (update) => outcomeText(update).state,
    by: (update) => outcomeText(update).state,
  },
  { title: 'Reason', cell: (update) => outcomeText(update, update).why },
  { title: 'Time', cell: ({ at }) => formatDate(at), by: ({ at }) => at },
];

/** The work of the node for a job that it takes part in or has left. */
type JobWork = NodeStatus['totals'][number] & { readonly label: string; readonly isPresent: boolean };

const JOBS: readonly Column<JobWork>[] = [
  { title: 'Job', cell: ({ label }) => label, by: ({ label }) => label },
  { title: 'Now', cell: ({ isPresent }) => (isPresent ? 'takes part' : 'left') },
  {
    title: 'Rounds accepted',
    cell: ({ accepted }) => formatCount(accepted),
    by: ({ accepted }) => accepted,
    numeric: true,
  },
  {
    title: 'Not counted',
    cell: ({ refused }) => formatCount(refused),
    by: ({ refused }) => refused,
    numeric: true,
  },
  { title: 'Tokens', cell: ({ tokens }) => formatCount(tokens), by: ({ tokens }) => tokens, numeric: true },
  {
    title: 'Place',
    cell: ({ contribution: one }) =>
      one === null ? '–' : `${formatCount(one.place)} of ${formatCount(one.contributors)}`,
    by: ({ contribution: one }) => one?.place ?? Number.POSITIVE_INFINITY,
    numeric: true,
  },
  {
    title: 'Share of the tokens',
    cell: ({ contribution: one }) => (one === null ? '–' : formatPercent(one.tokens / one.totalTokens)),
    by: ({ contribution: one }) => (one === null ? -1 : one.tokens / one.totalTokens),
    numeric: true,
  },
  {
    title: 'Training time',
    cell: ({ seconds }) => formatDuration(seconds),
    by: ({ seconds }) => seconds,
    numeric: true,
  },
];

/** A node: what it does now, its jobs, its limits, its newest updates, and the orders that its owner can give. */
export function NodeView({ status, onChange }: { status: NodeStatus; onChange(): void }) {
  const [contributed, all] = totalsText(status);
  return html`<h1>${status.name}</h1>
    <${NodeOrders} status=${status} onChange=${onChange} />
    ${status.jobs.map(
      (one, i) => html`<${Activity} key=${one.job?.job ?? i} activity=${one} pause=${status.pause} />`,
    )}
    <section>
      <h2>This machine</h2>
      <dl class="facts">
        <dt>Engine</dt>
        <dd>${status.engine || 'not chosen yet'}${status.engineNote !== null && ` (${status.engineNote})`}</dd>
        <dt>Speed</dt>
        <dd>${formatCount(status.tokensPerSecond)} tokens/s</dd>
        <dt>Contributed</dt>
        <dd>${contributed}${all !== undefined && `; with the earlier jobs of this machine: ${all}`}</dd>
        <dt>Costs now</dt>
        <dd>${costText(status)}, network ${speedText(status)}</dd>
        <dt>Traffic</dt>
        <dd>
          ${`sent ${formatBytes(status.traffic.sent)}, received ${formatBytes(status.traffic.received)} since the start; ${monthText(status)}`}
        </dd>
        <dt>Up</dt>
        <dd>${formatDuration(status.uptimeSeconds)}</dd>
        <dt>Restarts of the trainer</dt>
        <dd>${status.trainerRestarts}</dd>
        <dt>Peer id</dt>
        <dd><code class="long">${status.peerId}</code></dd>
      </dl>
    </section>
    <${NodeLimits} status=${status} onChange=${onChange} />
    <section>
      <h2>Jobs so far</h2>
      <${Table}
        caption="Jobs so far"
        columns=${JOBS}
        rows=${status.totals.map((total) => workOf(total, status))}
        id=${({ job }: JobWork) => job}
        empty="This node has made no update yet."
      />
    </section>
    <section>
      <h2>Newest updates</h2>
      <${Table}
        caption="Newest updates"
        columns=${UPDATES}
        rows=${status.updates.map((update) => rowOf(update, status))}
        id=${({ update }: NodeUpdate) => update}
        empty="This node has made no update yet."
      />
    </section>`;
}

/** Adds the name of the job and whether the node takes part in it now. */
function workOf(total: NodeStatus['totals'][number], status: NodeStatus): JobWork {
  const isPresent = status.jobs.some((one) => one.job?.job === total.job);
  return { ...total, label: jobNameOf(total.job, status), isPresent };
}

/** Adds facts about the job of an update. */
function rowOf(update: NodeUpdate, status: NodeStatus): Row {
  const job = status.jobs.find((one) => one.job?.job === update.job)?.job ?? null;
  const isJobOver = job?.phase === 'finished' || job?.phase === 'failed';
  return { ...update, jobName: jobNameOf(update.job, status), isJobOver };
}

/** Returns the name of a job. If an older release joined the job and then left it, returns the beginning of its digest. */
function jobNameOf(job: string, { totals, jobs }: NodeStatus): string {
  const present = jobs.find((one) => one.job?.job === job)?.job?.name;
  return present ?? totals.find((one) => one.job === job)?.name ?? job.slice(0, 12);
}

/** Activity of the node for one invite. */
function Activity({ activity, pause }: { activity: NodeJobStatus; pause: NodeStatus['pause'] }) {
  const { job, jobName, coordinator, standing, shutOut } = activity;
  const { now, problem } = describeNode(activity, { pause, shutOut, date: formatDate });
  return html`<section>
    <h2>${jobName === null ? `Coordinator ${coordinator.addresses[0] ?? 'unknown'}` : `Job ${jobName}`}</h2>
    <p class=${shutOut === null ? '' : 'failure'}>${now}</p>
    ${problem !== null && html`<p class="failure">${problemText(problem)}</p>`}
    <p class="quiet">${coordinator.connected ? 'Connected to the coordinator' : 'Not connected to the coordinator'}</p>
    ${
      activity.state === 'training' &&
      html`<${Progress} label="Steps of this round" done=${activity.step} total=${activity.steps} unit="steps" />`
    }
    ${
      job !== null &&
      html`${
        job.phase !== null &&
        html`<${Progress} label="Rounds" done=${job.roundsDone} total=${job.rounds} unit="rounds" />`
      }
        <dl class="facts">
          <dt>Base</dt>
          <dd>${job.base.name}, ${formatCount(job.base.parameters)} parameters</dd>
          <dt>Adapter</dt>
          <dd>${formatCount(job.adapterParameters)} parameters</dd>
          <dt>Role</dt>
          <dd>${job.role}</dd>
          <dt>Held-out loss</dt>
          <dd>${
            job.checkpoint
              ? `${formatLoss(job.checkpoint.heldOutLoss)} in round ${job.checkpoint.round}`
              : 'none yet'
          }</dd>
          <dt>Phase</dt>
          <dd>${job.phase ?? 'not known yet'}${job.reason !== '' && `: ${job.reason}`}</dd>
          ${
            job.newestChange !== null &&
            html`<dt>Settings changed</dt>
              <dd>${settingsText(job.newestChange)}</dd>`
          }
          <dt>Standing</dt>
          <dd>${standing === null ? 'not known yet' : standingText(standing)}</dd>
          <dt>Trainer</dt>
          <dd>${formatDuration(activity.trainerSeconds)} for this job, with weight ${activity.weight}</dd>
        </dl>`
    }
  </section>`;
}
