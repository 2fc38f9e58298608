import { countOf, formatLoss, phaseText, safeText, table } from '../../common/text.ts';
import type { CreatedJob, SweepJobView, SweepView } from '../../index.ts';
import { SWARM } from '../command-name.ts';

/** Columns that a narrow terminal does not show. */
const FIRST_HIDDEN = ['checkpoints'];

/** Returns the invites of the jobs of a sweep. `lora-swarm node -` reads these lines. */
export function sweepInviteLines(jobs: readonly Pick<CreatedJob, 'name' | 'invite'>[]): string[] {
  return jobs.map(({ name, invite }) => `invite ${name}: ${invite}`);
}

/**
 * Returns a table of the jobs of each sweep. Jobs that no halving has stopped come first.
 * @param columns maximum length of a line of a table
 */
export function sweepLines(sweeps: readonly SweepView[], columns = Number.POSITIVE_INFINITY): string[] {
  return sweeps.flatMap((sweep, i) => {
    const sorted = [...sweep.jobs].sort((a, b) => rank(a.outAt) - rank(b.outAt) || lossOf(a) - lossOf(b));
    return [
      ...(i > 0 ? [''] : []),
      headLine(sweep),
      ...jobTable(sorted, sweep.winner, columns),
      ...sorted.flatMap(({ name, pauseReason }) =>
        pauseReason === null ? [] : [pauseLine(name, pauseReason)],
      ),
    ];
  });
}

function jobTable(jobs: readonly SweepJobView[], winner: string | null, columns: number): string[] {
  const rows = jobs.map((job) => ({
    job: job.name,
    variant: safeText(job.variant),
    phase: phaseText({ ...job, roundsDone: job.checkpoints }),
    checkpoints: String(job.checkpoints),
    // The loss is often not the final one, so its checkpoint stands beside it.
    'held-out loss': lossText(job),
    result: resultText(job, winner),
  }));
  for (let hidden = 0; ; hidden++) {
    const left = FIRST_HIDDEN.slice(0, hidden);
    const shown = (Object.keys(rows[0]!) as (keyof (typeof rows)[number])[]).filter(
      (name) => !left.includes(name),
    );
    const lines = table([shown, ...rows.map((row) => shown.map((name) => row[name]))], { columns });
    const fits = lines.every((line) => line.length <= columns);
    if (fits || hidden === FIRST_HIDDEN.length)
      return hidden === 0 ? lines : [...lines, `not shown in this narrow terminal: ${left.join(', ')}`];
  }
}

function headLine({ name, nextRounds, winner, error }: SweepView): string {
  if (error !== null) return `sweep ${name} failed: ${error.message}`;
  if (winner !== null) return `sweep ${name}: ${winner} won`;
  return `sweep ${name}: the next half is stopped after ${countOf(nextRounds, 'checkpoint')}`;
}

function lossText({ heldOutLoss, lossAfter }: SweepJobView): string {
  return heldOutLoss === null ? '–' : `${formatLoss(heldOutLoss)} after ${lossAfter}`;
}

function resultText({ name, outAt, heldOutLoss, pauseReason }: SweepJobView, winner: string | null): string {
  if (outAt !== null) return heldOutLoss === null ? 'dropped' : `lost in halving ${outAt}`;
  if (pauseReason !== null) return 'none yet: paused';
  return name === winner ? 'won' : 'none yet';
}

function pauseLine(name: string, reason: string): string {
  const why = reason === '' ? '' : ` (${safeText(reason)})`;
  return `the sweep waits for ${name}, which is paused${why}: continue with ${SWARM} job resume ${name}, or take it out of the sweep with ${SWARM} job stop ${name}`;
}

/**
 * Returns the sort key of a job. Jobs that no halving has stopped come first, then the jobs that the newest halving stopped.
 */
function rank(outAt: number | null): number {
  return outAt === null ? Number.NEGATIVE_INFINITY : -outAt;
}

function lossOf({ heldOutLoss }: { heldOutLoss: number | null }): number {
  return heldOutLoss ?? Number.MAX_VALUE;
}
