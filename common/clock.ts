/** Time as a dependency: real in the daemons, virtual in the simulation. */
export interface Clock {
  /** Milliseconds since the Unix epoch, for records and messages. May jump when the machine's clock is set. */
  now(): number;
  /** Milliseconds since an arbitrary moment, for measuring durations. Never jumps. */
  monotonic(): number;
  /** Calls `callback` once after `ms` milliseconds. Returns a function that cancels the call. */
  after(ms: number, callback: () => void): () => void;
}
