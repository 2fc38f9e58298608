/** Dynamic loss scaling (Micikevicius et al. 2018, arXiv 1710.03740, section 3.2) for products in float16. */

import type { SwarmError } from '../../common/errors.ts';
import type { Executable, Feeds } from '../engines/engine.ts';
import { trainError } from './errors.ts';

/** Name of the scalar input that the loss is multiplied by before the backward pass. */
export const LOSS_SCALE_INPUT = 'lossScale';

/** With the optimiser's, all that is needed to go on bit for bit. */
export interface LossScaleState {
  /** A power of two: multiplying by it and dividing rounds nothing in float32. */
  readonly scale: number;
  /** Runs since it changed. */
  readonly runs: number;
}

/** The loss is a sum over tokens, so a token's gradient is scaled by this however many there are. */
const INITIAL_SCALE = 2 ** 10;
/** Larger ones would bring float32 itself near its limit; smaller ones mean gradients that no scale brings into float16. */
const [SMALLEST_SCALE, LARGEST_SCALE] = [2 ** -10, 2 ** 24];
/** Runs without overflow after which it is doubled, as PyTorch's and the paper's. */
const GROWTH_RUNS = 2000;

/** @throws SwarmError OPTIMIZER_STATE for what is no state of a scale */
export function requireLossScale({ scale, runs }: LossScaleState): void {
  const isScale = scale >= SMALLEST_SCALE && scale <= LARGEST_SCALE && Number.isInteger(Math.log2(scale));
  if (isScale && Number.isSafeInteger(runs) && runs >= 0) return;
  throw trainError('OPTIMIZER_STATE', `a loss scale of ${scale} after ${runs} runs; start afresh`, {
    scale,
    runs,
  });
}

export class LossScale {
  #state: LossScaleState = { scale: INITIAL_SCALE, runs: 0 };

  get state(): LossScaleState {
    return this.#state;
  }

  /** @throws SwarmError OPTIMIZER_STATE for what is no state of a scale */
  set state(state: LossScaleState) {
    requireLossScale(state);
    const { scale, runs } = state;
    this.#state = { scale, runs };
  }

  /**
   * A training graph that is fed the scale, as one whose gradients are not scaled. A run in which they overflow is made
   * again with half the scale: no row is skipped.
   */
  around(executable: Executable): Executable {
    return { run: (feeds) => this.#run(executable, feeds), dispose: () => executable.dispose() };
  }

  /** @throws SwarmError GRADIENT_NOT_FINITE when the forward pass overflows, or the gradients at the smallest scale */
  async #run(executable: Executable, feeds: Feeds): Promise<Record<string, Float32Array>> {
    for (;;) {
      const { scale } = this.#state;
      const outputs = await executable.run({ ...feeds, [LOSS_SCALE_INPUT]: Float32Array.of(scale) });
      const { loss, ...gradients } = outputs;
      // No scale changes the loss.
      if (!loss!.every(Number.isFinite)) throw overflow(`the loss is ${loss![0]}`, scale);
      if (Object.values(gradients).every((gradient) => gradient.every(Number.isFinite))) {
        for (const gradient of Object.values(gradients)) {
          for (let i = 0; i < gradient.length; i++) gradient[i] = gradient[i]! / scale;
        }
        this.#succeeded();
        return outputs;
      }
      if (scale === SMALLEST_SCALE) throw overflow('gradients are not finite', scale);
      this.#state = { scale: scale / 2, runs: 0 };
    }
  }

  #succeeded(): void {
    const { scale, runs } = this.#state;
    const grows = runs + 1 === GROWTH_RUNS;
    this.#state = grows ? { scale: Math.min(LARGEST_SCALE, 2 * scale), runs: 0 } : { scale, runs: runs + 1 };
  }
}

/** Adapter and moments are float32: what was trained so far goes on without float16. */
const WITHOUT_FLOAT16 =
  'go on with --precision float32: "swarm train" with --resume, a node when it is started again; if that fails too, begin anew with a lower --learning-rate';

function overflow(what: string, scale: number): SwarmError {
  return trainError(
    'GRADIENT_NOT_FINITE',
    `with products in float16 and a loss scale of ${scale} ${what}; take --precision float32`,
    { scale },
    { next: WITHOUT_FLOAT16 },
  );
}
