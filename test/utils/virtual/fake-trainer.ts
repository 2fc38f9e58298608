import { SwarmError } from '../../../common/errors.ts';
import type { Clock } from '../../../common/time/clock.ts';
import { sleep } from '../../../common/time/deadline.ts';
import type { AdapterLayout } from '../../../lora/adapter/layout.ts';
import type { Row } from '../../../lora/data/row.ts';
import type { TrainProgress } from '../../../lora/train/trainer.ts';
import type { NodeTrainer, TrainedRound, TrainTask } from '../../../node/trainer/trainer.ts';
import type { SeededRandom } from './seeded-random.ts';

/** The optimum of all parameters. The loss is the mean squared distance from it. */
const OPTIMUM = 0.25;
const RATE = 0.1;
/** Spread of the optimum between rows: real data disagrees a little too. */
const ROW_SPREAD = 0.05;

export interface FakeTrainerOptions {
  layout: AdapterLayout;
  msPerStep: number;
  /** Share of rounds in which the process dies. */
  deaths: number;
  /** Share of rounds whose steps lead away from the optimum, to test the gate. */
  blunders: number;
}

/** A trainer whose result depends only on rows, adapter and moments. It takes virtual time. */
export class FakeTrainer implements NodeTrainer {
  readonly engine = 'fake';
  readonly note = null;
  readonly restarts = 0;
  /** Completed rounds, and the pseudo-gradient of the last one. */
  trained = 0;
  lastChange: Float32Array[] = [];
  /** The bases that each call of `releaseMemory` kept. */
  readonly released: string[][] = [];
  readonly #options: FakeTrainerOptions;
  readonly #clock: Clock;
  readonly #random: SeededRandom;

  constructor(options: FakeTrainerOptions, deps: { clock: Clock; random: SeededRandom }) {
    this.#options = options;
    this.#clock = deps.clock;
    this.#random = deps.random;
  }

  async prepare(_manifest: unknown, { signal }: { signal: AbortSignal }): Promise<AdapterLayout> {
    await sleep(this.#clock, this.#options.msPerStep, signal);
    return this.#options.layout;
  }

  async train(
    { adapter, rows, steps, optimizer }: TrainTask,
    { signal, onProgress }: { signal: AbortSignal; onProgress: (progress: TrainProgress) => void },
  ): Promise<TrainedRound> {
    const { msPerStep, deaths, blunders } = this.#options;
    const dies = this.#random.chance(deaths) ? this.#random.integer(0, steps - 1) : -1;
    const direction = this.#random.chance(blunders) ? -3 : 1;
    let values = adapter.map((tensor) => tensor.slice());
    const rowsPerStep = Math.ceil(rows.length / steps);
    const lossFirst = distance(values);
    let tokens = 0;
    for (let step = 0; step < steps; step++) {
      await sleep(this.#clock, msPerStep, signal);
      if (step === dies) throw new SwarmError('TRAINER_DIED', 'the fake trainer was killed', {});
      const batch = rows.slice(step * rowsPerStep, (step + 1) * rowsPerStep);
      values = trainStep(values, batch, direction);
      tokens += batch.reduce((sum, { labels }) => sum + labels.length, 0);
      onProgress({
        step: step + 1,
        steps,
        loss: distance(values),
        lossSum: distance(values) * tokens,
        rows: (step + 1) * rowsPerStep,
        tokens,
        learningRate: RATE,
        gradientNorm: 1,
        tokensPerSecond: (1000 * tokens) / ((step + 1) * msPerStep),
      });
    }
    this.trained++;
    this.lastChange = adapter.map((tensor, t) => tensor.map((value, i) => value - values[t]![i]!));
    const moments = optimizer.m.map((tensor, t) => tensor.map((value, i) => 0.9 * value + values[t]![i]!));
    return {
      adapter: values,
      optimizer: { step: optimizer.step + steps, m: moments, v: optimizer.v },
      result: {
        steps,
        tokens,
        seconds: (steps * msPerStep) / 1000,
        lossFirst,
        lossLast: distance(values),
        lossMean: lossFirst,
      },
    };
  }

  async keepBases(): Promise<void> {}

  async releaseMemory(bases: ReadonlySet<string>): Promise<void> {
    this.released.push([...bases]);
  }

  async stop(): Promise<void> {}
}

/** Returns the adapter after a step on the rows of a batch. @param direction negative: away from the optimum. @default 1 */
export function trainStep(
  adapter: readonly Float32Array[],
  batch: readonly Row[],
  direction = 1,
): Float32Array<ArrayBuffer>[] {
  return adapter.map((tensor, t) =>
    tensor.map((value, i) => value - direction * RATE * (value - targetOf(batch, t, i))),
  );
}

/** Mean squared distance from the optimum. */
export function distance(tensors: readonly Float32Array[]): number {
  let sum = 0;
  let count = 0;
  for (const tensor of tensors) {
    for (const value of tensor) sum += (value - OPTIMUM) ** 2;
    count += tensor.length;
  }
  return sum / count;
}

/** Returns the fake trainer's loss over rows: the mean squared distance from the optimum of the rows. */
export function lossOn(tensors: readonly Float32Array[], rows: readonly Row[]): number {
  let sum = 0;
  let count = 0;
  for (const [t, tensor] of tensors.entries()) {
    for (const [i, value] of tensor.entries()) sum += (value - targetOf(rows, t, i)) ** 2;
    count += tensor.length;
  }
  return sum / count;
}

/** Returns the gradient of the fake trainer's loss over rows: the mean squared distance from the optimum of the rows. */
export function gradientOn(tensors: readonly Float32Array[], rows: readonly Row[]): Float32Array[] {
  const count = tensors.reduce((sum, { length }) => sum + length, 0);
  return tensors.map((tensor, t) => tensor.map((value, i) => (2 * (value - targetOf(rows, t, i))) / count));
}

/** Returns the optimum of a parameter over rows. The optimum of a single row is a little higher or lower than OPTIMUM. */
function targetOf(rows: readonly Row[], tensor: number, i: number): number {
  const wishes = rows.reduce(
    (sum, { ids }) => sum + Math.sin(ids[0]! * (12.9898 * tensor + 78.233 * i + 1)),
    0,
  );
  return OPTIMUM + (rows.length > 0 ? (ROW_SPREAD * wishes) / rows.length : 0);
}
