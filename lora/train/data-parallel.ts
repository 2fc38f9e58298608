/**
 * Data-parallel training: each device computes the gradients of a part of the batch. The sum over the devices is the
 * gradient of the whole batch.
 */
import { isSwarmError } from '../../common/errors.ts';
import type { Row } from '../data/row.ts';
import type { LossAndGradients } from './step.ts';

export interface GradientRequest {
  readonly adapter: readonly Float32Array[];
  readonly rows: readonly Row[];
  /**
   * Optimiser step, and number of the first micro-batch within it. The seeds of random numbers are derived from both
   * numbers.
   */
  readonly step: number;
  readonly first: number;
}

export interface GradientSums extends LossAndGradients {
  /** Sums of the gradients over all rows of the request, for every trained tensor. */
  readonly gradients: readonly Float32Array[];
  readonly seconds: number;
}

/** A trainer on another device, in a separate process. */
export interface DataParallelWorker {
  readonly name: string;
  /**
   * Requests the gradients of some rows.
   * @returns `sent` resolves when the request has left this process. Before that, the caller must not block the thread.
   *   `sums` resolves to the result.
   */
  gradients(
    request: GradientRequest,
    signal: AbortSignal | undefined,
  ): { sent: Promise<void>; sums: Promise<GradientSums> };
  /** Ends the worker's process. Never rejects. */
  stop(): Promise<void>;
}

export interface DataParallelOptions {
  /** Number of rows in one pass through the model. A batch is split into multiples of this number. */
  microBatch: number;
  /**
   * Called when a worker failed. This device computes the worker's rows of the batch instead. Later batches are split
   * among the remaining devices.
   */
  onLost: (name: string, error: unknown) => void;
}

/** Weight of earlier measurements in the moving average of a worker's speed. */
const MEMORY = 0.5;

interface MeasuredWorker {
  readonly worker: DataParallelWorker;
  /** Micro-batches per second; null before the first measurement. */
  speed: number | null;
}

/** Computes the gradients of each batch on this device and on the workers' devices at the same time. */
export class DataParallel {
  readonly #options: DataParallelOptions;
  #workers: MeasuredWorker[];
  #ownSpeed: number | null = null;

  constructor(workers: readonly DataParallelWorker[], options: DataParallelOptions) {
    this.#workers = workers.map((worker) => ({ worker, speed: null }));
    this.#options = options;
  }

  /**
   * Sums loss and gradients over a batch in a fixed order: this device first, then the workers in their given order.
   * @param own computes the sums over rows on this device; without rows, all sums are zero. The workers' gradients are
   * added to the tensors that `own` returns.
   */
  async gradients(
    { rows, ...request }: Omit<GradientRequest, 'first'>,
    own: (rows: readonly Row[], first: number) => Promise<Omit<GradientSums, 'seconds'>>,
    signal: AbortSignal | undefined,
  ): Promise<LossAndGradients> {
    const { microBatch, onLost } = this.#options;
    const workers = this.#workers;
    const parts = split(Math.ceil(rows.length / microBatch), [
      this.#ownSpeed,
      ...workers.map(({ speed }) => speed),
    ]);
    let first = parts[0]!;
    const requests = workers.map((measured, i) => {
      const from = first;
      first += parts[i + 1]!;
      const some = rows.slice(from * microBatch, first * microBatch);
      if (some.length === 0) return null;
      const { sent, sums } = measured.worker.gradients({ ...request, rows: some, first: from }, signal);
      // The rejection is handled below, where the sums are awaited. Until then, it must not count as
      // unhandled.
      sums.catch(() => {});
      return { measured, some, from, count: parts[i + 1]!, sent, sums };
    });
    const busy = requests.filter((part) => part !== null);
    await Promise.all(busy.map(({ sent }) => sent));
    const started = performance.now();
    const mine = await own(rows.slice(0, parts[0]! * microBatch), 0);
    if (parts[0]! > 0) {
      this.#ownSpeed = average(this.#ownSpeed, parts[0]! / ((performance.now() - started) / 1000));
    }
    let { lossSum, tokens } = mine;
    // These tensors belong to `own`, which overwrites them on its next call. So they are copied before that
    // call, below.
    const total = mine.gradients;
    const addTo = (sums: Omit<GradientSums, 'seconds'>) => {
      lossSum += sums.lossSum;
      tokens += sums.tokens;
      for (const [t, tensor] of total.entries()) {
        const more = sums.gradients[t]!;
        for (let i = 0; i < tensor.length; i++) tensor[i] = tensor[i]! + more[i]!;
      }
    };
    const lost: { rows: readonly Row[]; from: number }[] = [];
    for (const { measured, some, from, count, sums } of busy) {
      try {
        const found = await sums;
        addTo(found);
        measured.speed = average(measured.speed, count / found.seconds);
      } catch (error) {
        signal?.throwIfAborted();
        // An exhausted engine works again in a new process, so the worker's device is not given up. The error is passed
        // on, and the trainer restarts with all its devices.
        if (isSwarmError(error, 'ENGINE_EXHAUSTED')) throw error;
        this.#workers = this.#workers.filter((one) => one !== measured);
        onLost(measured.worker.name, error);
        // Stop the process. If it failed but still lives, it would keep its copy of the base, in memory and
        // on the device.
        void measured.worker.stop();
        lost.push({ rows: some, from });
      }
    }
    for (const { rows: some, from } of lost) {
      const before = total.map((tensor) => tensor.slice());
      const again = await own(some, from);
      addTo({ ...again, gradients: before });
    }
    return { lossSum, tokens };
  }
}

function average(before: number | null, now: number): number {
  return before === null ? now : MEMORY * before + (1 - MEMORY) * now;
}

/**
 * Splits `count` micro-batches among devices. Each micro-batch goes to the device that would finish it first.
 *
 * @param speeds micro-batches per second; null for an unknown speed, which is assumed to be the mean of the known speeds
 */
export function split(count: number, speeds: readonly (number | null)[]): number[] {
  const known = speeds.filter((speed) => speed !== null);
  const mean = known.length === 0 ? 1 : known.reduce((sum, speed) => sum + speed, 0) / known.length;
  const shares = speeds.map((speed) => speed ?? mean);
  const parts = shares.map(() => 0);
  for (let given = 0; given < count; given++) {
    const next = shares.reduce(
      (best, speed, i) => ((parts[i]! + 1) / speed < (parts[best]! + 1) / shares[best]! ? i : best),
      0,
    );
    parts[next]!++;
  }
  return parts;
}
