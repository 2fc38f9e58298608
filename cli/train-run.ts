import { adapterSize, initAdapter, type LoraConfig, writePeftFolder } from '../lora/adapter/peft.ts';
import type { Row } from '../lora/data/packing.ts';
import { loadTokenizer } from '../lora/data/tokenizer.ts';
import { describeBase, openModel } from '../lora/models/model.ts';
import type { TrainingConfig } from '../lora/train/config.ts';
import type { RowLoss } from '../lora/train/step.ts';
import { TrainerProcess } from '../lora/train/supervisor.ts';
import { epochs, packFiles } from './train-rows.ts';

/** Steps after which the adapter comes back from the trainer: what an interruption can lose. */
const STEPS_PER_CALL = 20;

export interface TrainRunOptions {
  modelDir: string;
  /** Text files and folders. */
  data: readonly string[];
  /** Text to measure the loss on, before and after. */
  heldOut: readonly string[] | null;
  /** Folder of the adapter. */
  output: string;
  /** Where converted weights are kept between runs. */
  cacheDir: string;
  engine: 'onnx-cpu' | 'onnx-webgpu';
  threads: number;
  lora: LoraConfig;
  /** The settings, as soon as the number of rows is known. */
  training(rows: number): TrainingConfig;
  seed: number;
  signal: AbortSignal;
}

export interface TrainPlan {
  tokens: number;
  rows: number;
  steps: number;
  parameters: number;
  heldOutLoss: number | null;
}

export interface TrainStep {
  step: number;
  steps: number;
  loss: number;
  learningRate: number;
  tokensPerSecond: number;
  secondsLeft: number;
}

export interface TrainTotals {
  step: number;
  tokens: number;
  seconds: number;
  /** Of the last step. */
  loss: number;
}

export interface TrainListener {
  onPlan(plan: TrainPlan): void;
  onStep(step: TrainStep): void;
  /** An interruption or a fault ends the run; what was trained until then is in the output folder. */
  onPartial(totals: TrainTotals): void;
}

/**
 * Trains an adapter on this machine, in a trainer process like a node's, and writes it as a PEFT folder.
 * @throws SwarmError MODEL_*, DATA_*, LORA_*, TRAINER_*; the signal's reason
 */
export async function trainAlone(
  options: TrainRunOptions,
  listener: TrainListener,
): Promise<{ totals: TrainTotals; lossBefore: number | null; lossAfter: number | null }> {
  const { modelDir, signal, lora, output } = options;
  await openModel(modelDir);
  const base = await describeBase(modelDir, { signal });
  const tokenizer = await loadTokenizer(modelDir);
  const { sequenceLength } = options.training(1);
  const data = await packFiles(options.data, tokenizer, { sequenceLength, signal });
  const heldOut =
    options.heldOut && (await packFiles(options.heldOut, tokenizer, { sequenceLength, signal }));
  const training = options.training(data.rows.length);
  const { engine, threads, cacheDir } = options;
  const trainer = await TrainerProcess.start(
    { modelDir, cacheDir, engine, threads, lora, training },
    { signal },
  );
  try {
    const { layout } = trainer;
    const heldOutLoss = async (adapter: readonly Float32Array[]): Promise<number | null> =>
      heldOut && meanLoss(await trainer.evaluate({ adapter, rows: heldOut.rows, signal }));
    const initial = initAdapter(layout, options.seed);
    const lossBefore = await heldOutLoss(initial);
    listener.onPlan({
      tokens: data.tokens,
      rows: data.rows.length,
      steps: training.totalSteps,
      parameters: adapterSize(layout),
      heldOutLoss: lossBefore,
    });
    const save = (tensors: readonly Float32Array[]): Promise<void> =>
      writePeftFolder(output, { layout, tensors, lora, baseModelName: modelDir, baseDigest: base.digest });
    const run = new Run(trainer, training, initial, epochs(data.rows, options.seed));
    try {
      await run.toTheEnd(signal, (step) => listener.onStep(step));
    } catch (error) {
      if (run.totals.step > 0) {
        await save(run.adapter);
        listener.onPartial(run.totals);
      }
      signal.throwIfAborted();
      throw error;
    }
    await save(run.adapter);
    return { totals: run.totals, lossBefore, lossAfter: await heldOutLoss(run.adapter) };
  } finally {
    await trainer.stop();
  }
}

/** The steps of one training, a few at a time, so that the adapter so far is always at hand. */
class Run {
  readonly totals: TrainTotals = { step: 0, tokens: 0, seconds: 0, loss: Number.NaN };
  adapter: readonly Float32Array[];
  private readonly trainer: TrainerProcess;
  private readonly training: TrainingConfig;
  private readonly rows: Iterator<Row, never>;

  constructor(
    trainer: TrainerProcess,
    training: TrainingConfig,
    adapter: readonly Float32Array[],
    rows: Iterator<Row, never>,
  ) {
    this.trainer = trainer;
    this.training = training;
    this.adapter = adapter;
    this.rows = rows;
  }

  async toTheEnd(signal: AbortSignal, onStep: (step: TrainStep) => void): Promise<void> {
    const { totals, training } = this;
    const { totalSteps: steps, batchSize, sequenceLength } = training;
    while (totals.step < steps) {
      const count = Math.min(STEPS_PER_CALL, steps - totals.step);
      const rows = Array.from({ length: count * batchSize }, () => this.rows.next().value);
      const before = totals.step;
      const outcome = await this.trainer.train({
        adapter: this.adapter,
        rows,
        steps: count,
        signal,
        onProgress: ({ step, loss, tokensPerSecond, learningRate }) => {
          const done = before + step;
          const secondsLeft = ((steps - done) * batchSize * sequenceLength) / tokensPerSecond;
          onStep({ step: done, steps, loss, learningRate, tokensPerSecond, secondsLeft });
        },
      });
      this.adapter = outcome.adapter;
      totals.step += outcome.steps;
      totals.tokens += outcome.tokens;
      totals.seconds += outcome.seconds;
      totals.loss = outcome.lossLast;
    }
  }
}

/** Nats per predicted token over all rows. */
function meanLoss(losses: readonly RowLoss[]): number {
  const tokens = losses.reduce((sum, row) => sum + row.tokens, 0);
  return losses.reduce((sum, row) => sum + row.lossSum, 0) / tokens;
}
