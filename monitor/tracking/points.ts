import type { JobEvent } from '../job-events.ts';

/** The figures of one round of a job, as experiment trackers take them. */
export interface Point {
  readonly round: number;
  /** Time at which the round ended, in ms since the epoch. */
  readonly at: number;
  /** Sequence number of the event in its job. */
  readonly sequence: number;
  /** Values by their names. A figure that was not measured is missing. */
  readonly values: Readonly<Partial<Record<Figure, number>>>;
}

/** Names of the figures, in the order of the columns of a table. The part before the slash is a group. */
export const FIGURES = [
  'loss/held_out',
  'loss/train',
  'round/updates',
  'round/tokens',
  'round/seconds',
  'round/update_bytes',
  'speed/tokens_per_second',
] as const;
export type Figure = (typeof FIGURES)[number];

/** A tool that records the curves of a job. */
export interface Tracker {
  /**
   * Sequence number of the newest event that the tool already has. Points of events up to this number are not
   * added again.
   */
  readonly after: number;
  /** Adds points, in the order of their rounds. */
  add(points: readonly Point[]): Promise<void>;
  /** @param finished whether the job has ended */
  close(finished: boolean): Promise<void>;
}

/** Returns the figures of an event; null if the event has none. */
export function pointOf(event: JobEvent): Point | null {
  const { at, sequence } = event;
  if (event.type === 'rolled-back') {
    return { round: event.round, at, sequence, values: known({ 'loss/held_out': event.heldOutLoss }) };
  }
  if (event.type !== 'checkpoint') return null;
  const { round, heldOutLoss, trainLoss, updates, tokens, seconds, updateBytes, tokensPerSecond } = event;
  return {
    round,
    at,
    sequence,
    values: known({
      'loss/held_out': heldOutLoss,
      'loss/train': trainLoss,
      'round/updates': updates,
      'round/tokens': tokens,
      'round/seconds': seconds,
      'round/update_bytes': updateBytes,
      'speed/tokens_per_second': tokensPerSecond,
    }),
  };
}

function known(values: Partial<Record<Figure, number | null>>): Point['values'] {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== null));
}
