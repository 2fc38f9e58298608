/** Learning rate over the course of a job. */
export interface Schedule {
  readonly learningRate: number;
  readonly schedule: 'constant' | 'linear' | 'cosine';
  /** Steps of linear rise from 0. */
  readonly warmupSteps: number;
  /** The same as a share of `totalSteps`, rounded up; null: `warmupSteps` counts. */
  readonly warmupRatio: number | null;
  /** Length of the job in optimiser steps: where the line or cosine ends. */
  readonly totalSteps: number;
  /** A line or cosine ends at this fraction of `learningRate` and stays there. */
  readonly finalFraction: number;
}

/** Steps of warm-up; a share is rounded up, as transformers does. */
export function warmupStepsOf({
  warmupSteps,
  warmupRatio,
  totalSteps,
}: Pick<Schedule, 'warmupSteps' | 'warmupRatio' | 'totalSteps'>): number {
  return warmupRatio === null ? warmupSteps : Math.ceil(totalSteps * warmupRatio);
}

/**
 * Learning rate of an optimiser step: a factor of warm-up, (step + 1) / warmup, times one of decay, which falls from
 * 1 to `finalFraction` between warm-up and `totalSteps` along a line or a half cosine (SGDR without restarts, arXiv
 * 1608.03983). After the warm-up these are the rates of transformers' schedulers; within it theirs come one step
 * later, because their first step has the rate 0 and changes nothing (docs/decisions/080-training.md).
 *
 * @param step steps that this optimiser has made: its moments need the warm-up
 * @param position steps that the job has made; differs from `step` for a node that joined late or is slow
 */
export function learningRateAt(schedule: Schedule, step: number, position: number = step): number {
  const warmup = warmupStepsOf(schedule);
  const rise = step < warmup ? (step + 1) / warmup : 1;
  const { learningRate, totalSteps } = schedule;
  const progress = (position - warmup) / Math.max(1, totalSteps - warmup);
  return learningRate * rise * decay(schedule, Math.min(1, Math.max(0, progress)));
}

function decay({ schedule, finalFraction }: Schedule, progress: number): number {
  if (schedule === 'constant') return 1;
  const left = schedule === 'linear' ? 1 - progress : 0.5 * (1 + Math.cos(Math.PI * progress));
  return finalFraction + (1 - finalFraction) * left;
}
