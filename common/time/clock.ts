/** The source of time for a component: the machine's clock in the daemons, a virtual clock in the simulation. */
export interface Clock {
  /** Milliseconds since the Unix epoch, for records and messages. May jump when the machine's clock is set. */
  now(): number;
  /** Milliseconds since an arbitrary moment, for measuring durations. Never jumps. */
  monotonic(): number;
  /** Calls `callback` once after `ms` milliseconds. Returns a function that cancels the call. */
  after(ms: number, callback: () => void): () => void;
}
