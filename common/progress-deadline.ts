import type { Clock } from './clock.ts';
import { commonError } from './common-errors.ts';

export interface ProgressOptions {
  clock: Clock;
  /** Longest time in milliseconds between two signs of progress. */
  idleMs: number;
  /** Longest time in milliseconds altogether, however steady the progress. */
  totalMs: number;
  signal: AbortSignal;
  /** What was waited for: goes into the error. */
  what: string;
}

/**
 * Runs `work` with a signal that aborts when there is no progress for too long, or when all of it takes too long. One
 * timer serves both: signs of progress are frequent and only note the time.
 * @throws SwarmError DEADLINE_EXCEEDED, the outer signal's reason, or whatever `work` throws
 */
export async function withProgress<T>(
  { clock, idleMs, totalMs, signal, what }: ProgressOptions,
  work: (signal: AbortSignal, progressed: () => void) => Promise<T>,
): Promise<T> {
  const controller = new AbortController();
  const start = clock.monotonic();
  let last = start;
  let cancel = (): void => {};
  const check = (): void => {
    const now = clock.monotonic();
    const left = Math.min(last + idleMs, start + totalMs) - now;
    if (left > 0) {
      cancel = clock.after(left, check);
      return;
    }
    const limit = now - start >= totalMs ? totalMs : idleMs;
    controller.abort(
      commonError('DEADLINE_EXCEEDED', `${what} took longer than ${limit} ms`, { what, ms: limit }),
    );
  };
  const onAbort = (): void => controller.abort(signal.reason);
  if (signal.aborted) onAbort();
  signal.addEventListener('abort', onAbort, { once: true });
  check();
  try {
    return await work(controller.signal, () => {
      last = clock.monotonic();
    });
  } finally {
    cancel();
    signal.removeEventListener('abort', onAbort);
  }
}
