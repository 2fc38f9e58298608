import type { Manifest } from '../../../protocol/job/manifest.ts';
import type { RunningSettings } from '../../../protocol/job/settings.ts';

/** Schedule of the learning rate over a job. */
export interface Schedule {
  readonly learningRate: number;
  readonly schedule: 'constant' | 'linear' | 'cosine';
  /** Number of steps in which the rate rises linearly from 0. */
  readonly warmupSteps: number;
  /** Warm-up as a share of `totalSteps`, rounded up; null if `warmupSteps` applies. */
  readonly warmupRatio: number | null;
  /** Number of optimiser steps of the job, after which the linear and cosine schedules end. */
  readonly totalSteps: number;
  /** The linear and cosine schedules end at this fraction of `learningRate`, and stay there. */
  readonly finalFraction: number;
}

/** Settings of a schedule that may change while a job runs. */
export type ScheduleChange = Pick<Schedule, 'learningRate' | 'totalSteps'>;

/** Returns the schedule of the learning rate in a round whose settings have changed; undefined without a change. */
export function changedJobSchedule(
  { rounds }: Pick<Manifest, 'rounds'>,
  changed: Pick<RunningSettings, 'learningRate' | 'count'> | undefined,
): ScheduleChange | undefined {
  if (changed === undefined) return undefined;
  const { learningRate, count } = changed;
  return { learningRate, totalSteps: count * rounds.localSteps };
}

/**
 * Returns a schedule with a changed learning rate and number of steps. The number of warm-up steps stays the same. If
 * it grew with the number of steps, a run that has finished its warm-up could be in its warm-up again.
 */
export function changedSchedule(schedule: Schedule, change: ScheduleChange | undefined): Schedule {
  if (change === undefined) return schedule;
  return { ...schedule, ...change, warmupRatio: null, warmupSteps: warmupStepsOf(schedule) };
}

/** Returns the steps of warm-up. A share is rounded up, as in transformers. */
export function warmupStepsOf({
  warmupSteps,
  warmupRatio,
  totalSteps,
}: Pick<Schedule, 'warmupSteps' | 'warmupRatio' | 'totalSteps'>): number {
  return warmupRatio === null ? warmupSteps : Math.ceil(totalSteps * warmupRatio);
}

/**
 * Returns the learning rate of an optimiser step: warm-up × decay. The warm-up factor is (step + 1) / warmup. The decay
 * factor falls from 1 to `finalFraction` between the warm-up and `totalSteps`, linearly or as a half cosine (SGDR
 * without restarts, arXiv 1608.03983). After the warm-up, the rates equal the rates of transformers' schedulers. During
 * the warm-up, the rates of transformers come one step later, because the first step of transformers has rate 0 and
 * changes nothing (docs/decisions/080-training.md).
 *
 * @param step number of steps that this optimiser has made. The warm-up follows this number, because the optimiser's
 *   moments need the warm-up.
 * @param position number of steps that the job has made. It differs from `step` on a node that joined late or is slow.
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
