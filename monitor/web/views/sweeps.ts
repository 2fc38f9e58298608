import { html } from 'htm/preact';
import { countOf, formatLoss, phaseText } from '../../../common/text.ts';
import type { SweepJobView, SweepView } from '../../../protocol/api/sweeps.ts';
import { usePolled } from '../live.ts';
import { Failure } from '../parts/notice.ts';
import { type Column, Table } from '../parts/table.ts';

/** Time between two requests for the sweeps, in milliseconds. Sweeps change only every few rounds. */
const POLL_MS = 10_000;

/** The sweeps of a coordinator: their variants and losses, which variants are out, and which one won. */
export function SweepsPart() {
  const { data, error } = usePolled<{ sweeps: SweepView[] }>('/v1/sweeps', POLL_MS);
  const sweeps = data?.sweeps ?? [];
  return html`<${Failure} error=${error} />
    ${sweeps.toReversed().map((sweep) => html`<${Sweep} key=${sweep.name} sweep=${sweep} />`)}`;
}

function Sweep({ sweep }: { sweep: SweepView }) {
  const { name, winner, error, nextRounds, jobs } = sweep;
  const sorted = [...jobs].sort((a, b) => rank(a) - rank(b) || lossOf(a) - lossOf(b));
  return html`<section>
    <h2>Sweep ${name}</h2>
    ${error !== null && html`<p class="failure">${error.message}</p>`}
    ${error === null && html`<p>${winner === null ? `The half with the higher held-out losses is stopped after ${countOf(nextRounds, 'checkpoint')}.` : html`<strong>${winner}</strong> won.`}</p>`}
    <${Table}
      caption="Jobs of the sweep ${name}"
      columns=${columnsOf(winner)}
      rows=${sorted}
      id=${({ job }: SweepJobView) => job}
      empty="The sweep has no jobs."
    />
  </section>`;
}

function columnsOf(winner: string | null): readonly Column<SweepJobView>[] {
  return [
    { title: 'Job', cell: ({ name }) => html`<a href="#/jobs/${encodeURIComponent(name)}">${name}</a>` },
    { title: 'Variant', cell: ({ variant }) => variant },
    { title: 'Phase', cell: (job) => phaseText({ ...job, roundsDone: job.checkpoints }) },
    {
      title: 'Checkpoints',
      cell: ({ checkpoints }) => checkpoints,
      by: ({ checkpoints }) => checkpoints,
      numeric: true,
    },
    { title: 'Held-out loss', cell: ({ heldOutLoss }) => formatLoss(heldOutLoss), by: lossOf, numeric: true },
    {
      title: 'After',
      cell: ({ heldOutLoss, lossAfter }) => (heldOutLoss === null ? '–' : countOf(lossAfter, 'checkpoint')),
    },
    { title: 'Result', cell: (job) => html`<${Result} job=${job} winner=${winner} />` },
  ];
}

function Result({ job, winner }: { job: SweepJobView; winner: string | null }) {
  const { name, outAt, heldOutLoss, pauseReason } = job;
  if (name === winner) return html`<strong>won</strong>`;
  if (outAt !== null) return heldOutLoss === null ? 'out: dropped' : `out: lost in halving ${outAt}`;
  if (pauseReason !== null)
    return `the sweep waits: this job is paused${pauseReason === '' ? '' : `: ${pauseReason}`}`;
  return 'in the sweep';
}

/** Returns the sort key of a job. Jobs that are left come first, then the jobs that the newest halving stopped. */
function rank({ outAt }: SweepJobView): number {
  return outAt === null ? Number.NEGATIVE_INFINITY : -outAt;
}

function lossOf({ heldOutLoss }: SweepJobView): number {
  return heldOutLoss ?? Number.MAX_VALUE;
}
