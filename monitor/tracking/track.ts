import type { JobEvent } from '../../protocol/api/job-events.ts';
import { type Point, pointOf, type Tracker } from './points.ts';

/**
 * Number of points that are added to the trackers at once while the earlier events of a job are read. A point holds the
 * figures of one round.
 */
const BATCH = 100;

/** Numbers of points that `track` has read. */
export interface TrackedPoints {
  /** Points that were added to a tracker. */
  readonly added: number;
  /** Points that every tracker had already. */
  readonly known: number;
}

/** The event that stands in the place of the lost events of some rounds. */
export type CaughtUp = Extract<JobEvent, { type: 'caught-up' }>;

/**
 * Copies the figures of a job's events to trackers, until the job or the stream of events ends.
 * @param options `past`: the round of the newest checkpoint at the start. Points of earlier rounds are added
 *   in batches. `lostPoints`: returns the figures of the rounds whose events were lost, oldest first.
 *   `onPoint`: called after a point has been added to the trackers that lacked it
 */
export async function track(
  events: AsyncIterable<JobEvent>,
  trackers: readonly Tracker[],
  {
    past,
    lostPoints,
    onPoint,
  }: { past: number; lostPoints: (event: CaughtUp) => Promise<Point[]>; onPoint: (point: Point) => void },
): Promise<TrackedPoints> {
  let waiting: Point[] = [];
  let finished = false;
  const count = { added: 0, known: 0 };
  const flush = async (): Promise<void> => {
    const points = waiting;
    waiting = [];
    if (points.length === 0) return;
    for (const tracker of trackers) {
      await tracker.add(points.filter(({ sequence }) => sequence > tracker.after));
    }
    for (const point of points) {
      if (trackers.every(({ after }) => point.sequence <= after)) {
        count.known++;
        continue;
      }
      count.added++;
      onPoint(point);
    }
  };
  try {
    for await (const event of events) {
      const point = pointOf(event);
      if (point !== null) waiting.push(point);
      if (event.type === 'caught-up') waiting.push(...(await lostPoints(event)));
      finished = event.type === 'finished';
      const isBehind = (waiting.at(-1)?.round ?? 0) < past;
      if (finished || waiting.length >= BATCH || !isBehind) await flush();
      if (finished) break;
    }
    await flush();
  } finally {
    await Promise.all(trackers.map((tracker) => tracker.close(finished)));
  }
  return count;
}
