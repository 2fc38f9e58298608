import { setTimeout as pause } from 'node:timers/promises';

/**
 * Looks again and again until `look` gives something true, and returns it.
 * @throws what the last look threw, or an error that names what was waited for
 */
export async function eventually<T>(
  look: () => T | Promise<T>,
  { timeout = 15_000, what = 'the condition' }: { timeout?: number; what?: string } = {},
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
    await pause(10);
  }
  throw failure;
}
