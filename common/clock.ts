/** Time as a dependency: real in the daemons, virtual in the simulation. */
export interface Clock {
  /** Milliseconds since the Unix epoch: for what is recorded or told. Somebody may set the machine's clock at any time. */
  now(): number;
  /** Milliseconds since some moment, growing steadily whatever the clock is set to: for how long something takes. */
  monotonic(): number;
  /** Calls back once after `ms`; the returned function cancels. */
  after(ms: number, callback: () => void): () => void;
}
