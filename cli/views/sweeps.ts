import { countOf, formatLoss, phaseText, safeText, table } from '../../common/text.ts';
import type { SweepJobView, SweepView } from '../../index.ts';
import { SWARM } from '../command-name.ts';

/** Returns a table of the jobs of each sweep. Jobs that no halving has stopped come first. */
export function sweepLines(sweeps: readonly SweepView[]): string[] {
  return sweeps.flatMap((sweep, i) => {
    const { winner, jobs } = sweep;
    const sorted = [...jobs].sort((a, b) => rank(a.outAt) - rank(b.outAt) || lossOf(a) - lossOf(b));
    return [
      ...(i > 0 ? [''] : []),
      headLine(sweep),
      ...table([
        ['job', 'variant', 'phase', 'checkpoints', 'held-out loss', 'after', 'result'],
        ...sorted.map((job) => [
          job.name,
          safeText(job.variant),
          phaseText({ ...job, roundsDone: job.checkpoints }),
          String(job.checkpoints),
          formatLoss(job.heldOutLoss),
          job.heldOutLoss === null ? '–' : countOf(job.lossAfter, 'checkpoint'),
          resultText(job, winner),
        ]),
      ]),
      ...sorted.flatMap(({ name, holdsSweep }) => (holdsSweep === null ? [] : [holdLine(name, holdsSweep)])),
    ];
  });
}

function headLine({ name, nextRounds, winner, error }: SweepView): string {
  if (error !== null) return `sweep ${name} failed: ${error.message}`;
  if (winner !== null) return `sweep ${name}: ${winner} won`;
  return `sweep ${name}: the next half is stopped after ${countOf(nextRounds, 'checkpoint')}`;
}

function resultText({ name, outAt, heldOutLoss, holdsSweep }: SweepJobView, winner: string | null): string {
  if (outAt !== null) return heldOutLoss === null ? 'dropped' : `lost in halving ${outAt}`;
  if (holdsSweep !== null) return 'none yet: paused';
  return name === winner ? 'won' : 'none yet';
}

function holdLine(name: string, reason: string): string {
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
