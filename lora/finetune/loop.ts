import type { AdapterToWrite } from '../adapter/peft.ts';
import type { StoredRows } from '../data/stored-rows.ts';
import type { AdamWState } from '../train/adamw.ts';
import type { TrainingConfig } from '../train/config.ts';
import { judge } from '../train/stopping.ts';
import type { TrainerProcess } from '../train/supervisor.ts';
import type { CheckpointFolder, RunState } from './checkpoints.ts';
import { finetuneError } from './errors.ts';
import type { TrainListener } from './finetune.ts';
import { rowOrder } from './row-order.ts';
import { lengthOf, type RunSettings } from './settings.ts';

/** Most steps asked of the trainer at once: their rows are in memory, and travel in one message. */
const STEPS_PER_CALL = 20;
/** Held-out rows that travel in one message. */
const ROWS_PER_CALL = 256;

export interface HeldOutDeps {
  trainer: TrainerProcess;
  data: StoredRows;
  listener: Pick<TrainListener, 'onMeasuring'>;
}

/** The data that the loss is measured on. */
export class HeldOut {
  readonly #deps: HeldOutDeps;

  constructor(deps: HeldOutDeps) {
    this.#deps = deps;
  }

  /** Nats per predicted token over all rows. */
  async loss(adapter: readonly Float32Array[], signal: AbortSignal): Promise<number> {
    const { trainer, data, listener } = this.#deps;
    let sum = 0;
    let tokens = 0;
    for (let start = 0; start < data.rows; start += ROWS_PER_CALL) {
      listener.onMeasuring(start, data.rows);
      const count = Math.min(ROWS_PER_CALL, data.rows - start);
      const rows = data.rowsAt(Array.from({ length: count }, (_, i) => start + i));
      for (const row of await trainer.evaluate({ adapter, rows, signal })) {
        sum += row.lossSum;
        tokens += row.tokens;
      }
    }
    return sum / tokens;
  }
}

export interface LoopOptions {
  settings: RunSettings;
  training: TrainingConfig;
  /** Where it begins or goes on; moments null: none yet. */
  start: { adapter: readonly Float32Array[]; optimizer: AdamWState | null };
  state: RunState;
}

export interface LoopDeps {
  trainer: TrainerProcess;
  data: StoredRows;
  heldOut: HeldOut | null;
  checkpoints: CheckpointFolder;
  about: Omit<AdapterToWrite, 'tensors'>;
  listener: TrainListener;
}

/** The steps of a run between measurements and checkpoints. */
export class TrainingLoop {
  state: RunState;
  adapter: readonly Float32Array[];
  #optimizer: AdamWState | null;
  readonly #options: LoopOptions;
  readonly #deps: LoopDeps;
  readonly #order: Iterator<number, never>;
  /** Rows that it takes in all. */
  readonly #rows: number;
  /** The step of the newest checkpoint. */
  #saved: number;

  constructor(options: LoopOptions, deps: LoopDeps) {
    this.#options = options;
    this.#deps = deps;
    // What may be changed from one start to the next is taken from this one.
    this.state = { ...options.state, settings: options.settings };
    this.adapter = options.start.adapter;
    this.#optimizer = options.start.optimizer;
    this.#order = rowOrder(deps.data.rows, options.settings.spec.seed, this.state.rows);
    this.#rows = lengthOf(options.settings.spec, deps.data.rows).rows;
    this.#saved = options.state.step;
  }

  async toTheEnd(signal: AbortSignal): Promise<void> {
    const { checkpointEvery } = this.#run;
    while (this.state.finished === null) {
      const isBest = await this.#evaluateIfDue(signal);
      const { step } = this.state;
      if (this.#isThrough && this.state.finished === null) this.state.finished = 'steps';
      const due = checkpointEvery > 0 && step % checkpointEvery === 0 && step !== this.#saved;
      if (due || isBest || this.state.finished !== null) await this.#save(signal);
      if (this.state.finished === null) await this.#train(signal);
    }
  }

  /**
   * A checkpoint of what an interruption or a fault left.
   * @returns whether there was anything to keep
   * @throws TRAINER_DIED, STORE_FULL, WRITE_FAILED
   */
  async saveAsItIs(): Promise<boolean> {
    if (this.state.step === 0) return false;
    if (this.state.step !== this.#saved) await this.#save(undefined);
    return true;
  }

  /** The adapter that the run is for: the best that was measured, or the last. @throws TRAIN_CHECKPOINT */
  async result(): Promise<{ adapter: readonly Float32Array[]; step: number; heldOutLoss: number | null }> {
    const { best, step, heldOutLoss } = this.state;
    if (this.#run.final === 'last' || best === null || best.step === step) {
      return { adapter: this.adapter, step, heldOutLoss };
    }
    const { checkpoints, about } = this.#deps;
    const { adapter } = await checkpoints.load(best.step, about.layout).catch((cause: Error) => {
      throw finetuneError(
        'TRAIN_CHECKPOINT',
        `the best adapter, of step ${best.step}, cannot be had: ${cause.message}`,
        { step: best.step },
        { next: 'take the last one: the same command with --resume --final last', cause },
      );
    });
    return { adapter, step: best.step, heldOutLoss: best.loss };
  }

  /** Whether no step is left to make: also where the rows ran out, some of which may predict nothing. */
  get #isThrough(): boolean {
    return this.state.step >= this.#options.training.totalSteps || this.state.rows >= this.#rows;
  }

  get #run() {
    return this.#options.settings.spec.run;
  }

  /** Measures the held-out loss at its steps and at the end. @returns whether it is the best so far */
  async #evaluateIfDue(signal: AbortSignal): Promise<boolean> {
    const { heldOut, listener } = this.#deps;
    const { evaluateEvery } = this.#run;
    const { step } = this.state;
    const atStep = step > 0 && (step % evaluateEvery === 0 || this.#isThrough);
    if (heldOut === null || evaluateEvery === 0 || !atStep || this.state.heldOutLoss !== null) return false;
    const loss = await heldOut.loss(this.adapter, signal);
    const { progress, isBest, stop } = judge(this.state, { step, loss }, this.#run);
    Object.assign(this.state, progress, { heldOutLoss: Number.isFinite(loss) ? loss : null });
    if (stop) this.state.finished = 'early-stopping';
    listener.onEvaluated({ step, heldOutLoss: loss, best: isBest });
    return isBest;
  }

  /** To the next step at which something else is to be done, and not too many at once. */
  async #train(signal: AbortSignal): Promise<void> {
    const { training } = this.#options;
    const { trainer, data, listener } = this.#deps;
    const { step: before, rows: taken, tokens, seconds } = this.state;
    const count = this.#stepsToGo(before);
    const length = Math.min(count * training.batchSize, this.#rows - taken);
    const rows = Array.from({ length }, () => data.row(this.#order.next().value));
    const outcome = await trainer.train({
      adapter: this.adapter,
      rows,
      steps: count,
      optimizer: this.#optimizer,
      signal,
      onProgress: (progress) => {
        const { loss, learningRate, gradientNorm, tokensPerSecond } = progress;
        Object.assign(this.state, {
          step: before + progress.step,
          rows: taken + progress.rows,
          tokens: tokens + progress.tokens,
          seconds: seconds + progress.tokens / tokensPerSecond,
          loss: Number.isFinite(loss) ? loss : null,
          heldOutLoss: null,
        });
        const { step } = this.state;
        const { state: first } = this.#options;
        // Over all steps since the start of this process: a machine that others use has its ups and downs.
        const secondsPerStep = (this.state.seconds - first.seconds) / (step - first.step);
        listener.onStep({
          step,
          steps: training.totalSteps,
          loss,
          learningRate,
          gradientNorm,
          epoch: this.state.rows / data.rows,
          tokens: this.state.tokens,
          tokensPerSecond,
          secondsLeft: (training.totalSteps - step) * secondsPerStep,
        });
      },
    });
    this.adapter = outcome.adapter;
    // From now on the moments are in the trainer's memory.
    this.#optimizer = null;
    // Batches in which nothing is predicted make no step.
    this.state.rows = taken + rows.length;
  }

  #stepsToGo(step: number): number {
    const { evaluateEvery, checkpointEvery } = this.#run;
    const toNext = (every: number): number =>
      every === 0 ? Number.POSITIVE_INFINITY : every - (step % every);
    const toEnd = this.#options.training.totalSteps - step;
    return Math.min(STEPS_PER_CALL, toEnd, toNext(evaluateEvery), toNext(checkpointEvery));
  }

  async #save(signal: AbortSignal | undefined): Promise<void> {
    const { trainer, checkpoints, about, listener } = this.#deps;
    const { start, state } = this.#options;
    // The trainer knows nothing of what was loaded until it has made a step.
    const now =
      start.optimizer !== null && this.state.step === state.step
        ? { adapter: start.adapter, optimizer: start.optimizer }
        : await trainer.state(signal);
    this.adapter = now.adapter;
    const path = await checkpoints.write({ ...now, state: this.state }, about);
    this.#saved = this.state.step;
    listener.onCheckpoint({ step: this.state.step, path });
  }
}
