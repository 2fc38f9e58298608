/**
 * Durable steps after which a coordinator may be killed, in order. The hook is called at each with its name. Tests kill the
 * real or simulated process there, and check that nothing is lost and nothing counts twice.
 */
export const failpoints = [
  /** An update's payload is a blob; no row names it. */
  'update-blob',
  /** Update and receipt are recorded; nothing has been sent. */
  'update-recorded',
  /** A head is recorded, of a new round or with the reason why there is none; nothing has been sent. */
  'head-recorded',
  /** A round is closed and its updates are selected; nothing is merged. */
  'round-closed',
  /** A merge has passed the gate; nothing of it is durable. */
  'merged',
  /** Adapter, delta and residual are blobs; there is no folder. */
  'checkpoint-blobs',
  /** The checkpoint's folder is complete; no row names it. */
  'checkpoint-folder',
  /** Checkpoint and next head are recorded; nothing has been sent. */
  'checkpoint-recorded',
] as const;

export type FailpointName = (typeof failpoints)[number];
export type Failpoint = (name: FailpointName) => void;
