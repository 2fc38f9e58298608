/** A prompt with two continuations: by the base alone (`before`), and by a checkpoint (`after`). */
export interface SampleText {
  readonly prompt: string;
  readonly isHeldOut: boolean;
  readonly before: string;
  readonly after: string;
}

/** The samples of a checkpoint, or the reason why the checkpoint has none. */
export interface SampleResult {
  /** Round of the checkpoint. */
  readonly round: number;
  /** The samples; null if generating them failed. */
  readonly texts: readonly SampleText[] | null;
  /** Reason why the sampling failed; empty if it did not fail. */
  readonly reason: string;
  readonly seconds: number;
  readonly at: number;
}
