import { formatLoss, safeText, table } from '../../common/text.ts';
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
        ['job', 'variant', 'phase', 'checkpoints', 'held-out loss', 'race'],
        ...sorted.map((job) => [
          job.name,
          safeText(job.variant),
          job.phase,
          String(job.checkpoints),
          formatLoss(job.heldOutLoss),
          raceText(job, winner),
        ]),
      ]),
      ...sorted.flatMap(({ name, holdsRace }) => (holdsRace === null ? [] : [holdLine(name, holdsRace)])),
    ];
  });
}

function headLine({ name, nextRounds, winner, error }: SweepView): string {
  if (error !== null) return `sweep ${name} failed: ${error.message}`;
  if (winner !== null) return `sweep ${name}: ${winner} won`;
  return `sweep ${name}: the next half is stopped after ${nextRounds} checkpoints`;
}

function raceText({ name, outAt, heldOutLoss, holdsRace }: SweepJobView, winner: string | null): string {
  if (outAt !== null) return heldOutLoss === null ? 'dropped' : `out in halving ${outAt}`;
  if (holdsRace !== null) return 'holds it up';
  return name === winner ? 'won' : 'in';
}

function holdLine(name: string, reason: string): string {
  const why = reason === '' ? '' : ` (${safeText(reason)})`;
  return `the race waits for ${name}, which is paused${why}: continue with ${SWARM} job resume ${name}, or drop it with ${SWARM} job stop ${name}`;
}

/**
 * Returns the sort key of a job. Jobs that are still in the race come first, then the jobs that were stopped
 * last.
 */
function rank(outAt: number | null): number {
  return outAt === null ? Number.NEGATIVE_INFINITY : -outAt;
}

function lossOf({ heldOutLoss }: { heldOutLoss: number | null }): number {
  return heldOutLoss ?? Number.MAX_VALUE;
}
