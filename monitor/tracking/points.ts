import type { JobEvent } from '../../protocol/api/job-events.ts';
import type { Checkpoint } from '../../protocol/messages.ts';

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

type Where = Omit<Point, 'values'>;
type RollBack = Where & Pick<Extract<JobEvent, { type: 'rolled-back' }>, 'heldOutLoss'>;
type Merge = Where &
  Pick<
    Extract<JobEvent, { type: 'checkpoint' }>,
    'heldOutLoss' | 'trainLoss' | 'updates' | 'tokens' | 'seconds' | 'updateBytes' | 'tokensPerSecond'
  >;

/** Returns the figures of an event; null if the event has none. */
export function pointOf(event: JobEvent): Point | null {
  if (event.type === 'rolled-back') return rollBackPoint(event);
  return event.type === 'checkpoint' ? mergePoint(event) : null;
}

/**
 * Returns the figures of a checkpoint whose event is lost.
 * @param options `restores`: the round whose adapter the checkpoint restored; null if the checkpoint is not a roll-back.
 *   `sequence`: number of the event that stands in the place of the lost events
 */
export function pointOfCheckpoint(
  { round, createdAt: at, metrics, contributors }: Checkpoint,
  { restores, sequence }: { restores: number | null; sequence: number },
): Point {
  const facts = { ...metrics, round, at, sequence };
  if (restores !== null) return rollBackPoint(facts);
  const { seconds, tokens } = metrics;
  const tokensPerSecond = seconds > 0 ? tokens / seconds : 0;
  return mergePoint({ ...facts, updates: contributors.length, tokensPerSecond });
}

function rollBackPoint({ round, at, sequence, heldOutLoss }: RollBack): Point {
  return { round, at, sequence, values: known({ 'loss/held_out': heldOutLoss }) };
}

function mergePoint({ round, at, sequence, ...figures }: Merge): Point {
  return {
    round,
    at,
    sequence,
    values: known({
      'loss/held_out': figures.heldOutLoss,
      'loss/train': figures.trainLoss,
      'round/updates': figures.updates,
      'round/tokens': figures.tokens,
      'round/seconds': figures.seconds,
      'round/update_bytes': figures.updateBytes,
      'speed/tokens_per_second': figures.tokensPerSecond,
    }),
  };
}

function known(values: Partial<Record<Figure, number | null>>): Point['values'] {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== null));
}
