import { figureName, formatFigure, formatLoss, safeText } from '../common/text.ts';

/** The best checkpoint of a job, and the metric that decides which one this is. */
export interface JobWithBest {
  readonly best: { readonly round: number; readonly heldOutLoss: number | null } | null;
  readonly tasks: {
    /** null if the held-out loss decides. */
    readonly metric: string | null;
    readonly best: { readonly value: number } | null;
  } | null;
}

/**
 * Returns a text about the best checkpoint of a job, such as "round 18, quiz.acc 0.7500, held-out loss 2.9700". The
 * deciding metric comes first. Returns null if there is no best checkpoint yet.
 */
export function bestText({ best, tasks }: JobWithBest): string | null {
  if (best === null) return null;
  const { metric = null, best: highest = null } = tasks ?? {};
  const figure =
    metric === null || highest === null
      ? ''
      : `, ${safeText(figureName(metric))} ${formatFigure(highest.value)}`;
  return `round ${best.round}${figure}, held-out loss ${formatLoss(best.heldOutLoss)}`;
}
