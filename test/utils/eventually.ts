import { setTimeout as pause } from 'node:timers/promises';

export interface EventuallyOptions {
  /** Milliseconds. @default 15_000 */
  timeout?: number;
  /** Pause between two looks, in milliseconds. @default 10 */
  interval?: number;
  /** Names the condition in the error. @default 'the condition' */
  what?: string;
}

/**
 * Calls `look` until it returns a truthy value, and returns that value.
 * @throws what the last look threw, or an error that names the condition
 */
export async function eventually<T>(
  look: () => T | Promise<T>,
  { timeout = 15_000, interval = 10, what = 'the condition' }: EventuallyOptions = {},
): Promise<NonNullable<T>> {
  const end = performance.now() + timeout;
  let failure: unknown = new Error(`${what} did not come true within ${timeout} ms`);
  while (performance.now() < end) {
    try {
      const found = await look();
      if (found) return found;
    } catch (error) {
      failure = error;
    }
    await pause(interval);
  }
  throw failure;
}

/**
 * Calls `check` until it throws nothing. `check` contains assertions that are expected to become true.
 * @throws what the last call threw
 */
export async function eventuallyHolds(
  check: () => void | Promise<void>,
  options: EventuallyOptions = {},
): Promise<void> {
  await eventually(async () => {
    await check();
    return true;
  }, options);
}
