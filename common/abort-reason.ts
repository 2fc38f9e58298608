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

/** Options of a function that a signal can abort. */
export interface AbortOptions {
  /** @default never aborts */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Lets the event loop handle waiting events. Work that blocks the thread calls this between its parts, so that other
 * code can run and the signal can abort.
 * @throws the signal's reason
 */
export async function nextTurn(signal?: AbortSignal): Promise<void> {
  await new Promise(setImmediate);
  signal?.throwIfAborted();
}
