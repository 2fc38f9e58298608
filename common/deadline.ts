import type { Clock } from './clock.ts';
import { commonError } from './common-errors.ts';

export interface DeadlineOptions {
  clock: Clock;
  /** Milliseconds after which the signal aborts with SwarmError DEADLINE_EXCEEDED. */
  ms: number;
  /** Aborts the signal too, with its own reason. */
  signal?: AbortSignal | undefined;
  /** What was waited for: goes into the error. */
  what: string;
}

/**
 * Runs `work` with a signal that aborts at a deadline on the given clock, real or virtual. The returned promise
 * settles at the deadline even if `work` pays no heed to its signal.
 * @throws SwarmError DEADLINE_EXCEEDED, the outer signal's reason, or whatever `work` throws
 */
export function withDeadline<T>(
  { clock, ms, signal, what }: DeadlineOptions,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  if (signal?.aborted) return Promise.reject(signal.reason);
  const controller = new AbortController();
  return new Promise<T>((resolve, reject) => {
    const done = (): void => {
      cancel();
      signal?.removeEventListener('abort', onAbort);
    };
    const giveUp = (reason: unknown): void => {
      done();
      controller.abort(reason);
      reject(reason);
    };
    const onAbort = (): void => giveUp(signal?.reason);
    const cancel = clock.after(ms, () =>
      giveUp(commonError('DEADLINE_EXCEEDED', `${what} took longer than ${ms} ms`, { what, ms })),
    );
    signal?.addEventListener('abort', onAbort, { once: true });
    work(controller.signal).then(
      (value) => {
        done();
        resolve(value);
      },
      (error: unknown) => {
        done();
        reject(error);
      },
    );
  });
}

/** Resolves after `ms` on the clock. @throws the signal's reason when it aborts first */
export function sleep(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason);
    const onAbort = (): void => {
      cancel();
      reject(signal.reason);
    };
    const cancel = clock.after(ms, () => {
      signal.removeEventListener('abort', onAbort);
      resolve();
    });
    signal.addEventListener('abort', onAbort, { once: true });
  });
}
