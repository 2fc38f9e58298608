import { thinned } from '../../common/thinned.ts';
import type { AdapterToWrite } from '../adapter/peft.ts';
import type { StoredRows } from '../data/stored-rows.ts';
import type { TrainingConfig } from '../train/config.ts';
import type { AdamWState } from '../train/optimizer/adamw.ts';
import type { TrainerProcess } from '../train/process/supervisor.ts';
import { judge } from '../train/stopping.ts';
import { type CheckpointFolder, KEPT_LOSSES, type RunState } from './checkpoints.ts';
import { finetuneError } from './errors.ts';
import type { HeldOutLoss } from './held-out-loss.ts';
import type { FinetuneListener } from './listener.ts';
import { rowOrder } from './row-order.ts';
import type { RunSettings } from './settings/run-settings.ts';
import { lengthOf } from './settings/settings.ts';

/**
 * Maximum number of steps per request to the trainer. The rows of these steps are in memory at once and are sent in one
 * message.
 */
const STEPS_PER_CALL = 20;

export interface LoopOptions {
  settings: RunSettings;
  training: TrainingConfig;
  /** Adapter and optimiser state to start from. `optimizer` is null if the optimiser has made no step yet. */
  start: { adapter: readonly Float32Array[]; optimizer: AdamWState | null };
  state: RunState;
}

export interface LoopDeps {
  trainer: TrainerProcess;
  data: StoredRows;
  heldOut: HeldOutLoss | null;
  checkpoints: CheckpointFolder;
  about: Omit<AdapterToWrite, 'tensors'>;
  listener: FinetuneListener;
}

/** Trains, measures the held-out loss and writes checkpoints, each when it is due. */
export class TrainingLoop {
  state: RunState;
  adapter: readonly Float32Array[];
  #optimizer: AdamWState | null;
  readonly #options: LoopOptions;
  readonly #deps: LoopDeps;
  readonly #order: Iterator<number, never>;
  /** Number of rows that the whole run trains on. */
  readonly #rows: number;
  /** Step of the newest checkpoint. */
  #saved: number;

  constructor(options: LoopOptions, deps: LoopDeps) {
    this.#options = options;
    this.#deps = deps;
    // A resumed run may have other settings than its checkpoint. The new settings apply.
    this.state = { ...options.state, settings: options.settings };
    this.adapter = options.start.adapter;
    this.#optimizer = options.start.optimizer;
    this.#order = rowOrder(deps.data.rows, options.settings.spec.seed, this.state.rows);
    this.#rows = lengthOf(options.settings.spec, deps.data.rows).rows;
    this.#saved = options.state.step;
  }

  /** Trains to the end of the run. @throws the errors of the trainer and the checkpoint folder; the signal's reason */
  async run(signal: AbortSignal): Promise<void> {
    const { checkpointEvery } = this.#run;
    while (this.state.finished === null) {
      const isBest = await this.#evaluateIfDue(signal);
      const { step } = this.state;
      if (this.#isComplete && this.state.finished === null) this.state.finished = 'steps';
      const due = checkpointEvery > 0 && step % checkpointEvery === 0 && step !== this.#saved;
      if (due || isBest || this.state.finished !== null) await this.#save(signal);
      if (this.state.finished === null) await this.#train(signal);
    }
  }

  /**
   * Writes a checkpoint after an interruption or error.
   * @returns false if no step has been made yet
   * @throws SwarmError TRAINER_DIED, STORE_FULL, WRITE_FAILED
   */
  async saveInterrupted(): Promise<boolean> {
    if (this.state.step === 0) return false;
    if (this.state.step !== this.#saved) await this.#save(undefined);
    return true;
  }

  /**
   * Returns the adapter for the output. This is the adapter with the lowest held-out loss, or the last
   * adapter if the settings ask for the last one or if no loss was measured.
   * @throws SwarmError TRAIN_CHECKPOINT
   */
  async result(): Promise<{ adapter: readonly Float32Array[]; step: number; heldOutLoss: number | null }> {
    const { best, step, heldOutLoss } = this.state;
    if (this.#run.final === 'last' || best === null || best.step === step) {
      return { adapter: this.adapter, step, heldOutLoss };
    }
    const { checkpoints, about } = this.#deps;
    const { adapter } = await checkpoints.load(best.step, about.layout).catch((cause: Error) => {
      throw finetuneError(
        'TRAIN_CHECKPOINT',
        `the best adapter (step ${best.step}) cannot be read: ${cause.message}`,
        { step: best.step },
        { next: 'use the last adapter instead: run the command again with --resume --final last', cause },
      );
    });
    return { adapter, step: best.step, heldOutLoss: best.loss };
  }

  /**
   * Whether all steps have been made or all rows have been used. The rows can run out first, because a batch without a
   * supervised token makes no step.
   */
  get #isComplete(): boolean {
    return this.state.step >= this.#options.training.totalSteps || this.state.rows >= this.#rows;
  }

  get #run() {
    return this.#options.settings.spec.run;
  }

  /** Measures the held-out loss if it is due. @returns whether the loss is the lowest so far */
  async #evaluateIfDue(signal: AbortSignal): Promise<boolean> {
    const { heldOut, listener } = this.#deps;
    const { evaluateEvery } = this.#run;
    const { step } = this.state;
    const atStep = step > 0 && (step % evaluateEvery === 0 || this.#isComplete);
    if (heldOut === null || evaluateEvery === 0 || !atStep || this.state.heldOutLoss !== null) return false;
    const loss = await heldOut.of(this.adapter, signal);
    const { progress, isBest, stop } = judge(this.state, { step, loss }, this.#run);
    const measured = Number.isFinite(loss) ? [{ step, loss }] : [];
    const all = [...this.state.losses, ...measured];
    const losses = all.length > KEPT_LOSSES ? thinned(all, KEPT_LOSSES / 2) : all;
    Object.assign(this.state, progress, { heldOutLoss: measured[0]?.loss ?? null, losses });
    if (stop) this.state.finished = 'early-stopping';
    listener.onEvaluated?.({ step, heldOutLoss: loss, best: isBest });
    return isBest;
  }

  /** Trains until the next measurement or checkpoint is due, but at most STEPS_PER_CALL steps. */
  async #train(signal: AbortSignal): Promise<void> {
    const { training } = this.#options;
    const { trainer, data, listener } = this.#deps;
    const { step: before, rows: taken, tokens, seconds } = this.state;
    const count = this.#stepsUntilDue(before);
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
        // Averages over all steps of this process, because the time of a single step varies when other programs run.
        const secondsPerStep = (this.state.seconds - first.seconds) / (step - first.step);
        listener.onStep?.({
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
    // From here on, the trainer holds the moments.
    this.#optimizer = null;
    // Includes the rows of batches without a supervised token, which make no step.
    this.state.rows = taken + rows.length;
  }

  #stepsUntilDue(step: number): number {
    const { evaluateEvery, checkpointEvery } = this.#run;
    const toNext = (every: number): number =>
      every === 0 ? Number.POSITIVE_INFINITY : every - (step % every);
    const toEnd = this.#options.training.totalSteps - step;
    return Math.min(STEPS_PER_CALL, toEnd, toNext(evaluateEvery), toNext(checkpointEvery));
  }

  async #save(signal: AbortSignal | undefined): Promise<void> {
    const { trainer, checkpoints, about, listener } = this.#deps;
    const { start, state } = this.#options;
    // The trainer receives the loaded state only with its first steps. Until then, the state is taken from `start`.
    const now =
      start.optimizer !== null && this.state.step === state.step
        ? { adapter: start.adapter, optimizer: start.optimizer }
        : await trainer.state(signal);
    this.adapter = now.adapter;
    const path = await checkpoints.write({ ...now, state: this.state }, about);
    this.#saved = this.state.step;
    listener.onCheckpoint?.({ step: this.state.step, path });
  }
}
