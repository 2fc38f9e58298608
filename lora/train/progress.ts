/** What the optimiser steps of one request come to. */

export interface TrainProgress {
  /** Steps done of this request. */
  step: number;
  steps: number;
  /** Rows taken so far. */
  rows: number;
  /** Nats per predicted token, over the step. */
  loss: number;
  /** Predicted tokens so far. */
  tokens: number;
  /** Sum of the loss over them, in nats. */
  lossSum: number;
  learningRate: number;
  /** L2 norm of the mean gradient before clipping. */
  gradientNorm: number;
  tokensPerSecond: number;
}

export interface TrainResult {
  steps: number;
  /** Predicted tokens. */
  tokens: number;
  seconds: number;
  /** Nats per predicted token: first step, last step, over all tokens. NaN when no step was made. */
  lossFirst: number;
  lossLast: number;
  lossMean: number;
}

/** A step that has been made. */
interface Step extends Pick<TrainProgress, 'rows' | 'learningRate' | 'gradientNorm'> {
  /** Nats, summed over its predicted tokens. */
  readonly lossSum: number;
  /** Its predicted tokens. */
  readonly tokens: number;
}

/** Adds them up. */
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

  /** @param steps at most */
  constructor(steps: number) {
    this.#steps = steps;
  }

  /** The time before this does not count. */
  start(): void {
    this.#started = performance.now();
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
