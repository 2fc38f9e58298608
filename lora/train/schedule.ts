/** Learning rate over the course of a job. */
export interface Schedule {
  readonly learningRate: number;
  readonly schedule: 'constant' | 'cosine';
  /** Steps of linear rise from 0. */
  readonly warmupSteps: number;
  /** Length of the job in optimiser steps: where the cosine ends. Not used by 'constant'. */
  readonly totalSteps: number;
  /** The cosine ends at this fraction of `learningRate` and stays there. */
  readonly finalFraction: number;
}

/**
 * Learning rate of optimiser step `step` (0 is the first):
 * warm-up (step+1)/warmup, then constant, or a half cosine from 1 to `finalFraction` between warm-up and
 * `totalSteps` (SGDR without restarts, arXiv 1608.03983).
 */
export function learningRateAt(schedule: Schedule, step: number): number {
  const { learningRate, warmupSteps, totalSteps, finalFraction } = schedule;
  if (step < warmupSteps) return (learningRate * (step + 1)) / warmupSteps;
  if (schedule.schedule === 'constant') return learningRate;
  const progress = Math.min(1, (step - warmupSteps) / Math.max(1, totalSteps - warmupSteps));
  return learningRate * (finalFraction + (1 - finalFraction) * 0.5 * (1 + Math.cos(Math.PI * progress)));
}
