import type { JobEvent } from '../../monitor/job-events.ts';
import type { Coordinator } from '../coordinator.ts';
import type { Store } from '../store/store.ts';

/** Events read from the store at a time. */
const PAGE = 256;

export interface EventLinesOptions {
  readonly job: string;
  /** Sequence after which to begin. */
  readonly after: number;
  /** Go on with events as they happen, until `return` or the daemon's end. */
  readonly follow: boolean;
}

/**
 * A job's events as lines of JSON, from the store; memory does not grow with a reader that is slow, for what happens
 * meanwhile is read from the store when its turn comes.
 */
export async function* eventLines(
  { job, after, follow }: EventLinesOptions,
  { coordinator, store, signal }: { coordinator: Coordinator; store: Store; signal: AbortSignal },
): AsyncGenerator<string, void, undefined> {
  let last = after;
  let wake = (): void => {};
  const unsubscribe = coordinator.onEvent((event) => event.job === job && wake());
  const onAbort = (): void => wake();
  signal.addEventListener('abort', onAbort);
  try {
    while (!signal.aborted) {
      // Asked for before reading, so that nothing falls between the two.
      const news = new Promise<void>((resolve) => {
        wake = resolve;
      });
      const page: JobEvent[] = store.events.after(job, last, PAGE);
      for (const event of page) {
        last = event.sequence;
        yield `${JSON.stringify(event)}\n`;
      }
      if (page.length === PAGE) continue;
      if (!follow) return;
      await news;
    }
  } finally {
    unsubscribe();
    signal.removeEventListener('abort', onAbort);
  }
}
