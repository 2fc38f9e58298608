import type { TrainProgress, TrainResult } from '../../lora/train/trainer.ts';
import type { TrainedRound, TrainTask } from './trainer.ts';

/** Duration of a slice of a round, in milliseconds. A job that waits can get the trainer at the end of a slice. */
export const SLICE_MS = 20_000;
/**
 * Maximum share of a slice's time that is spent on sending the adapter and the optimiser moments to the
 * trainer process and back. If the transfer takes long, the slices are longer than SLICE_MS.
 */
const TRANSFER_SHARE = 0.02;

/** Measures how fast a job trains, and decides how many steps the next slice of its round has. */
export class SlicePace {
  #msPerStep: number | null = null;
  #transferMs = 0;

  /** Returns the number of steps of the next slice, at least 1. Returns 1 before the first measurement. */
  steps(): number {
    if (this.#msPerStep === null) return 1;
    const ms = Math.max(SLICE_MS, this.#transferMs / TRANSFER_SHARE);
    return Math.max(1, Math.floor(ms / this.#msPerStep));
  }

  /** Returns the time that a number of steps takes, in milliseconds; null before the first measurement. */
  msFor(steps: number): number | null {
    return this.#msPerStep === null ? null : steps * this.#msPerStep;
  }

  /** @param ms milliseconds from the call of the trainer to its answer */
  measure({ steps, seconds }: TrainResult, ms: number): void {
    if (steps === 0) return;
    this.#msPerStep = ms / steps;
    this.#transferMs = Math.max(0, ms - 1000 * seconds);
  }
}

/**
 * The slices of a round. Each slice starts from the adapter and the optimiser moments of the slice before it. The slices
 * therefore end with the same adapter as a round that is trained without interruption.
 */
export class RoundSlices {
  readonly #task: TrainTask;
  readonly #batchSize: number;
  /** Number of steps in the slices so far. Unlike `#result`, includes steps on rows without supervised tokens. */
  #steps = 0;
  #after: Pick<TrainedRound, 'adapter' | 'optimizer'>;
  #result: TrainResult | null = null;

  /** @param batchSize number of rows in one step */
  constructor(task: TrainTask, batchSize: number) {
    this.#task = task;
    this.#batchSize = batchSize;
    this.#after = task;
  }

  /** Number of steps that are left. */
  get left(): number {
    return this.#task.steps - this.#steps;
  }

  /** Returns the next slice, with at most `maxSteps` steps. */
  next(maxSteps: number): TrainTask {
    const { rows, position } = this.#task;
    const { adapter, optimizer } = this.#after;
    const steps = Math.min(maxSteps, this.left);
    const made = this.#result?.steps ?? 0;
    return {
      adapter,
      optimizer,
      steps,
      rows: rows.slice(this.#steps * this.#batchSize, (this.#steps + steps) * this.#batchSize),
      ...(position && { position: { ...position, done: (position.done ?? 0) + made } }),
    };
  }

  /** Records a trained slice. */
  add({ steps }: TrainTask, { adapter, optimizer, result }: TrainedRound): void {
    this.#steps += steps;
    this.#after = { adapter, optimizer };
    this.#result = this.#result === null ? result : joined(this.#result, result);
  }

  /** Converts the progress in the slice that is being trained into the progress in the round. */
  progress(progress: TrainProgress): TrainProgress {
    const before = this.#result;
    if (before === null || before.steps === 0) return { ...progress, steps: this.#task.steps };
    return {
      ...progress,
      step: progress.step + before.steps,
      steps: this.#task.steps,
      rows: progress.rows + this.#steps * this.#batchSize,
      tokens: progress.tokens + before.tokens,
      lossSum: progress.lossSum + before.lossMean * before.tokens,
    };
  }

  /** Returns the trained round. Must be called only when no steps are left. */
  round(): TrainedRound {
    return { ...this.#after, result: this.#result! };
  }
}

function joined(a: TrainResult, b: TrainResult): TrainResult {
  if (a.steps === 0 || b.steps === 0) return a.steps === 0 ? b : a;
  const tokens = a.tokens + b.tokens;
  return {
    steps: a.steps + b.steps,
    tokens,
    seconds: a.seconds + b.seconds,
    lossFirst: a.lossFirst,
    lossLast: b.lossLast,
    lossMean: (a.lossMean * a.tokens + b.lossMean * b.tokens) / tokens,
  };
}
