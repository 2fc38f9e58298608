import { commonError } from '../common-errors.ts';
import type { Clock } from './clock.ts';

export interface ProgressOptions {
  clock: Clock;
  /** Maximum time without progress, in milliseconds. */
  idleMs: number;
  /** Maximum total time, in milliseconds. */
  totalMs: number;
  signal: AbortSignal;
  /** Name of the work, for the error message. */
  what: string;
}

/**
 * Runs `work` with a signal that aborts after `idleMs` without progress, or after `totalMs`. `work` must call
 * `progressed` whenever it has made progress. This call only records the time, because it happens often. One timer
 * checks both limits.
 * @throws SwarmError DEADLINE_EXCEEDED, the outer signal's reason, or an error of `work`
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
    const [problem, ms] =
      now - start >= totalMs ? ['took longer than', totalMs] : ['made no progress for', idleMs];
    controller.abort(commonError('DEADLINE_EXCEEDED', `${what} ${problem} ${ms} ms`, { what, ms }));
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
