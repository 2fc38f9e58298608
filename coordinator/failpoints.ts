/**
 * The durable steps between which a coordinator may be killed, in their order. At each the hook is called with the name;
 * tests kill the process (or the simulated one) there and check that nothing is lost and nothing counts twice.
 */
export const failpoints = [
  /** An update's payload is a blob; no row names it. */
  'update-blob',
  /** Update and receipt are recorded; nobody has been told. */
  'update-recorded',
  /** A head (of a new round, or of why there is none) is recorded; nobody has been told. */
  'head-recorded',
  /** A round is closed and its updates fixed; nothing is merged. */
  'round-closed',
  /** A merge has passed the gate; nothing of it is durable. */
  'merged',
  /** Adapter, delta and residual are blobs; there is no folder. */
  'checkpoint-blobs',
  /** The checkpoint's folder is complete; no row names it. */
  'checkpoint-folder',
  /** Checkpoint and next head are recorded; nobody has been told. */
  'checkpoint-recorded',
] as const;

export type FailpointName = (typeof failpoints)[number];
export type Failpoint = (name: FailpointName) => void;
