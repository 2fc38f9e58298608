import { raceSignal } from 'race-signal';
import type { JobEvent } from '../../protocol/api/job-events.ts';
import type { Coordinator } from '../coordinator.ts';
import type { Store } from '../store/store.ts';

/** Number of events read from the store at once. */
const PAGE = 256;

export interface EventLinesOptions {
  readonly job: string;
  /** Sequence number. Only events with a higher number are returned. */
  readonly after: number;
  /**
   * Whether to wait for new events after the stored events. In this case, the lines end only if the signal aborts or
   * the caller stops reading.
   */
  readonly follow: boolean;
  /** Only events of these types. @default all types */
  readonly types?: readonly string[] | undefined;
  /** Maximum number of events. @default no limit */
  readonly limit?: number | undefined;
}

/**
 * Yields a job's events as lines of JSON. Reads the events from the store page by page, so that few of them are in
 * memory even if the client reads slowly.
 */
export async function* eventLines(
  { job, after, follow, types, limit = Number.POSITIVE_INFINITY }: EventLinesOptions,
  { coordinator, store, signal }: { coordinator: Coordinator; store: Store; signal: AbortSignal },
): AsyncGenerator<string, void, undefined> {
  let last = after;
  let left = limit;
  let wake = (): void => {};
  const unsubscribe = coordinator.onEvent((event) => event.job === job && wake());
  try {
    while (!signal.aborted && left > 0) {
      // Listen before reading the store, so that no event between reading and waiting is missed.
      const news = new Promise<void>((resolve) => {
        wake = resolve;
      });
      const page: JobEvent[] = store.events.after(job, last, Math.min(PAGE, left), types);
      for (const event of page) {
        last = event.sequence;
        left--;
        yield `${JSON.stringify(event)}\n`;
      }
      if (page.length === PAGE) continue;
      if (!follow) return;
      await raceSignal(news, signal).catch(() => {});
    }
  } finally {
    unsubscribe();
  }
}
