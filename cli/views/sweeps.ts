import { formatLoss, safeText, table } from '../../common/text.ts';
import type { SweepView } from '../../index.ts';

/** Returns a table of the jobs of each sweep. Jobs that no halving has stopped come first. */
export function sweepLines(sweeps: readonly SweepView[]): string[] {
  return sweeps.flatMap(({ name, nextRounds, winner, jobs }, i) => {
    const head =
      winner === null
        ? `sweep ${name}: the next half is stopped after ${nextRounds} checkpoints`
        : `sweep ${name}: ${winner} won`;
    const sorted = [...jobs].sort((a, b) => rank(a.outAt) - rank(b.outAt) || lossOf(a) - lossOf(b));
    return [
      ...(i > 0 ? [''] : []),
      head,
      ...table([
        ['job', 'variant', 'phase', 'checkpoints', 'held-out loss', 'race'],
        ...sorted.map((job) => [
          job.name,
          safeText(job.variant),
          job.phase,
          String(job.checkpoints),
          formatLoss(job.heldOutLoss),
          job.outAt === null ? (job.name === winner ? 'won' : 'in') : `out in halving ${job.outAt}`,
        ]),
      ]),
    ];
  });
}

/** Jobs that were stopped later come earlier. */
function rank(outAt: number | null): number {
  return outAt === null ? Number.NEGATIVE_INFINITY : -outAt;
}

function lossOf({ heldOutLoss }: { heldOutLoss: number | null }): number {
  return heldOutLoss ?? Number.MAX_VALUE;
}
