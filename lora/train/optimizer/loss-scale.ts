/** Dynamic loss scaling (Micikevicius et al. 2018, arXiv 1710.03740, section 3.2) for matrix products in float16. */

import type { SwarmError } from '../../../common/errors.ts';
import type { Executable, Feeds } from '../../engines/engine.ts';
import { trainError } from '../errors.ts';

/** Scalar input by which the loss is multiplied before the backward pass. */
export const LOSS_SCALE_INPUT = 'lossScale';

/** State of the loss scale. A run in float16 stores it with the optimiser's state, to continue bit for bit. */
export interface LossScaleState {
  /** Factor of the loss: a power of two, because multiplying and dividing by such a number is exact in float32. */
  readonly scale: number;
  /** Number of runs of the graph since the scale changed. */
  readonly runs: number;
}

/**
 * Initial loss scale, which multiplies the gradient of each token. The loss is a sum over tokens and not a
 * mean, so a token's gradient does not shrink when a batch has more tokens.
 */
const INITIAL_SCALE = 2 ** 10;
/**
 * Minimum and maximum scale. With a larger scale, gradients would come near float32's own limit. If gradients overflow
 * even with the smallest scale, the run fails.
 */
const [SMALLEST_SCALE, LARGEST_SCALE] = [2 ** -10, 2 ** 24];
/**
 * Number of runs of the graph without overflow after which the scale doubles. PyTorch's GradScaler has the same
 * default.
 */
const GROWTH_RUNS = 2000;

/** @throws SwarmError OPTIMIZER_STATE for an invalid loss scale */
export function requireLossScale({ scale, runs }: LossScaleState): void {
  const isScale = scale >= SMALLEST_SCALE && scale <= LARGEST_SCALE && Number.isInteger(Math.log2(scale));
  if (isScale && Number.isSafeInteger(runs) && runs >= 0) return;
  throw trainError('OPTIMIZER_STATE', `invalid loss scale: ${scale} after ${runs} runs`, {
    scale,
    runs,
  });
}

export class LossScale {
  #state: LossScaleState = { scale: INITIAL_SCALE, runs: 0 };

  get state(): LossScaleState {
    return this.#state;
  }

  /** @throws SwarmError OPTIMIZER_STATE for an invalid loss scale */
  set state(state: LossScaleState) {
    requireLossScale(state);
    const { scale, runs } = state;
    this.#state = { scale, runs };
  }

  /**
   * Wraps a training graph with the input LOSS_SCALE_INPUT so that it returns unscaled gradients. A run whose gradients
   * overflow is repeated with half the scale, so no row is skipped.
   */
  around(executable: Executable): Executable {
    return { run: (feeds) => this.#run(executable, feeds), dispose: () => executable.dispose() };
  }

  /** @throws SwarmError GRADIENT_NOT_FINITE if the loss overflows, or the gradients overflow at the smallest scale */
  async #run(executable: Executable, feeds: Feeds): Promise<Record<string, Float32Array>> {
    for (;;) {
      const { scale } = this.#state;
      const outputs = await executable.run({ ...feeds, [LOSS_SCALE_INPUT]: Float32Array.of(scale) });
      const { loss, ...gradients } = outputs;
      // The scale does not affect the loss, so a lower scale would not make the loss finite.
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

/** Advice after an overflow. Adapter and moments are float32, so the run can continue without float16. */
const WITHOUT_FLOAT16 =
  'continue with --precision float32: run "lora-swarm train" with --resume, or start the node again; if that fails too, start over with a lower --learning-rate';

function overflow(what: string, scale: number): SwarmError {
  return trainError(
    'GRADIENT_NOT_FINITE',
    `${what} in float16, with a loss scale of ${scale}`,
    { scale },
    { next: WITHOUT_FLOAT16 },
  );
}
