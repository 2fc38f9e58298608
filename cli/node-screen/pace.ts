import type { NodeStatus, NodeUpdate } from '../../index.ts';

/** Number of the newest updates from which the length of a round is estimated. */
const UPDATES = 8;

/**
 * Estimates the length of a job's round from the times at which the node made its updates.
 * @param updates of one job, newest first
 * @returns median of the times between two updates, per round, in seconds; null with fewer than two updates
 */
export function roundSeconds(updates: readonly Pick<NodeUpdate, 'round' | 'at'>[]): number | null {
  const newest = updates.slice(0, UPDATES);
  const gaps = newest.slice(1).flatMap((older, i) => {
    const rounds = newest[i]!.round - older.round;
    return rounds > 0 ? [(newest[i]!.at - older.at) / 1000 / rounds] : [];
  });
  return gaps.length === 0 ? null : gaps.sort((a, b) => a - b)[Math.floor(gaps.length / 2)]!;
}

/** Estimates of the time left. */
export interface TimeLeft {
  /** Seconds until this node has trained its part of the round; null if unknown. */
  readonly round: number | null;
  /** Seconds until the last round of the job ends; null if unknown. */
  readonly job: number | null;
}

/** Observes the progress of one job, and estimates the time left. */
export class JobPace {
  #first: { round: number; step: number; at: number } | null = null;

  /**
   * @param status the status of one job
   * @param now current time in milliseconds
   */
  next(
    status: Pick<NodeStatus, 'state' | 'round' | 'step' | 'steps' | 'job' | 'updates'>,
    now: number,
  ): TimeLeft {
    const round = this.#roundLeft(status, now);
    const perRound = roundSeconds(status.updates);
    const rounds = (status.job?.rounds ?? 0) - (status.job?.roundsDone ?? 0);
    if (perRound === null || rounds < 1) return { round, job: null };
    const later = (rounds - 1) * perRound;
    return { round, job: later + Math.max(round ?? 0, 0.5 * perRound) };
  }

  #roundLeft(
    { state, round, step, steps }: Pick<NodeStatus, 'state' | 'round' | 'step' | 'steps'>,
    now: number,
  ) {
    if (state !== 'training') {
      this.#first = null;
      return null;
    }
    if (this.#first?.round !== round || step < this.#first.step) this.#first = { round, step, at: now };
    const made = step - this.#first.step;
    return made > 0 ? ((now - this.#first.at) / 1000 / made) * (steps - step) : null;
  }
}
