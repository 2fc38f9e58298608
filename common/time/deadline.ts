/**
 * Deadlines and pauses on a {@link Clock}. `AbortSignal.timeout` and Node's timers do the same on the machine's clock,
 * but the simulation runs on a virtual clock.
 */

import { raceSignal } from 'race-signal';
import { commonError } from '../common-errors.ts';
import type { Clock } from './clock.ts';

export interface DeadlineOptions {
  clock: Clock;
  /** Milliseconds after which the signal aborts with SwarmError DEADLINE_EXCEEDED. */
  ms: number;
  /** Outer signal. When it aborts, the work's signal aborts too, with the same reason. */
  signal?: AbortSignal | undefined;
  /** Name of the work. The error message contains it. */
  what: string;
}

/**
 * Runs `work` with a signal that aborts at a deadline. The returned promise settles at the deadline even if `work`
 * ignores its signal. The signal never aborts after `work` has settled. A later abort would close a connection that
 * `work` has opened, because libp2p closes an open socket when the signal of its dial aborts.
 * @throws SwarmError DEADLINE_EXCEEDED, the outer signal's reason, or an error of `work`
 */
export async function withDeadline<T>(
  { clock, ms, signal, what }: DeadlineOptions,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  signal?.throwIfAborted();
  const controller = new AbortController();
  const forward = (): void => controller.abort(signal?.reason);
  const cancel = clock.after(ms, () =>
    controller.abort(commonError('DEADLINE_EXCEEDED', `${what} took longer than ${ms} ms`, { what, ms })),
  );
  signal?.addEventListener('abort', forward, { once: true });
  try {
    return await raceSignal(work(controller.signal), controller.signal);
  } finally {
    cancel();
    signal?.removeEventListener('abort', forward);
  }
}

/** Resolves after `ms` milliseconds on the clock. @throws the signal's reason if it aborts first */
export async function sleep(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  const { promise, resolve } = Promise.withResolvers<void>();
  const cancel = clock.after(ms, resolve);
  try {
    await raceSignal(promise, signal);
  } finally {
    cancel();
  }
}
