/** Cuts a batch that several devices share into micro-batches. */

export interface SharedBatch {
  /** Number of rows of a micro-batch. It is the same on every device. */
  readonly microBatch: number;
  /** Reason why the micro-batch has fewer rows than it would have on a single device; null if it has as many. */
  readonly reason: string | null;
}

/**
 * Shrinks the micro-batch so that every device gets at least one micro-batch of each batch, because devices
 * share a batch in whole micro-batches. The size is an equal share of the batch, rounded up. It is rounded
 * down if rounding up would leave a device idle: 9 rows on 4 devices, in micro-batches of 3, would occupy
 * only 3 devices. A smaller micro-batch changes loss and gradients by rounding errors. It also changes the
 * random numbers of dropout and noise, because these numbers are drawn for each micro-batch.
 */
export function shareBatch(
  { batchSize, microBatch }: { batchSize: number; microBatch: number },
  devices: number,
): SharedBatch {
  const parts = (rows: number): number => Math.ceil(batchSize / rows);
  // With fewer rows than devices, some devices stay idle.
  const busy = Math.min(devices, batchSize);
  if (parts(microBatch) >= busy) return { microBatch, reason: null };
  const share = Math.ceil(batchSize / busy);
  const rows = parts(share) >= busy ? share : Math.floor(batchSize / busy);
  const who = busy === devices ? `each of the ${devices} devices` : `${busy} of the ${devices} devices`;
  return {
    microBatch: rows,
    reason: `${rows} of the ${batchSize} rows of a batch, so that ${who} gets a part of the batch`,
  };
}

/** Returns a line for the user: "rows at a time: 4 of …". */
export function shareLine(reason: string): string {
  return `rows at a time: ${reason}`;
}
