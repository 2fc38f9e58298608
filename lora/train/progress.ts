/** Progress and result of the optimiser steps of one request. */

export interface TrainProgress {
  /** Number of steps of this request made so far. */
  step: number;
  steps: number;
  /** Number of rows used so far. */
  rows: number;
  /** Mean loss of the step, in nats per supervised token. */
  loss: number;
  /** Number of supervised tokens that were trained on so far. */
  tokens: number;
  /** Sum of the losses of all supervised tokens so far, in nats. */
  lossSum: number;
  learningRate: number;
  /** L2 norm of the mean gradient before clipping. */
  gradientNorm: number;
  tokensPerSecond: number;
}

export interface TrainResult {
  steps: number;
  /** Number of supervised tokens. */
  tokens: number;
  seconds: number;
  /**
   * Loss in nats per supervised token: in the first step, in the last step, and over all tokens. NaN if no step was
   * made.
   */
  lossFirst: number;
  lossLast: number;
  lossMean: number;
}

/** Figures of one optimiser step, summed over its rows. */
interface Step extends Pick<TrainProgress, 'rows' | 'learningRate' | 'gradientNorm'> {
  /** Loss in nats, summed over the step's supervised tokens. */
  readonly lossSum: number;
  /** Number of supervised tokens of the step. */
  readonly tokens: number;
}

/** Adds up the steps of a request. */
export class StepTally {
  readonly result: TrainResult = {
    steps: 0,
    tokens: 0,
    seconds: 0,
    lossFirst: Number.NaN,
    lossLast: Number.NaN,
    lossMean: Number.NaN,
  };
  readonly #steps: number;
  #started = performance.now();
  #lossSum = 0;

  /** @param steps maximum number of steps of the request */
  constructor(steps: number) {
    this.#steps = steps;
  }

  start(): void {
    this.#started = performance.now();
  }

  /** Runs work whose time does not count as training time. */
  async apart(work: () => Promise<void>): Promise<void> {
    const before = performance.now();
    await work();
    this.#started += performance.now() - before;
  }

  add({ lossSum, tokens, ...step }: Step): TrainProgress {
    const { result } = this;
    const loss = lossSum / tokens;
    this.#lossSum += lossSum;
    if (result.steps === 0) result.lossFirst = loss;
    result.steps++;
    result.tokens += tokens;
    result.lossLast = loss;
    result.lossMean = this.#lossSum / result.tokens;
    result.seconds = (performance.now() - this.#started) / 1000;
    return {
      ...step,
      step: result.steps,
      steps: this.#steps,
      loss,
      tokens: result.tokens,
      lossSum: this.#lossSum,
      tokensPerSecond: result.tokens / result.seconds,
    };
  }
}
