/**
 * Waits for work that a signal can abort. Libraries and Node.js throw different errors for an abort, so the signal decides.
 * @throws the signal's reason for any error after the signal aborted; else the error of the work
 */
export async function withAbortReason<T>(
  signal: AbortSignal | undefined,
  work: () => Promise<T>,
): Promise<T> {
  signal?.throwIfAborted();
  try {
    return await work();
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  }
}
