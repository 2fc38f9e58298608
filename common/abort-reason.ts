/**
 * Waits for work that a signal can abort. Libraries and Node.js throw different errors for an abort, so this function
 * looks at the signal, not at the error.
 * @throws the signal's reason if the signal has aborted; otherwise the error of the work
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
