import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import type { RowLoss } from '../../lora/train/step.ts';
import { formatBytes, formatChange, formatCount, formatDuration, formatLoss } from '../../monitor/text.ts';
import type { Context } from '../context.ts';
import { resolveCache } from '../homes.ts';
import { collect, integer, jsonOption } from '../options.ts';
import { refuseExisting } from '../output-folder.ts';
import { ProgressLine, printJson, printLines } from '../print.ts';
import { addTrainingOptions, type TrainingFlags } from '../training-options.ts';

/** Steps after which the adapter comes back from the trainer: what an interruption can lose. */
const STEPS_PER_CALL = 20;

interface TrainOptions extends TrainingFlags {
  model: string;
  data: string[];
  heldOut?: string[];
  output: string;
  force?: boolean;
  threads: number;
  engine: 'onnx-cpu' | 'onnx-webgpu';
  json?: boolean;
}

export function registerTrain(program: Command, context: Context): void {
  const command = program
    .command('train')
    .description('fine-tune on this machine alone: the training of the swarm without a swarm')
    .requiredOption('--model <dir>', 'base model, a Hugging Face folder')
    .requiredOption('--data <path>', '.txt or .jsonl file or folder; may be repeated', collect)
    .option('--held-out <path>', 'text to measure the loss on before and after; may be repeated', collect)
    .requiredOption('--output <dir>', 'where the PEFT adapter is written');
  addTrainingOptions(command)
    .option('--threads <n>', 'threads of the engine', integer(1, 1024), 1)
    .option('--engine <name>', 'onnx-cpu or onnx-webgpu', 'onnx-cpu')
    .option('--force', 'overwrite the output folder')
    .addOption(jsonOption())
    .action((options: TrainOptions) => train(context, options));
}

async function train(context: Context, options: TrainOptions): Promise<void> {
  const output = resolve(context.cwd, options.output);
  await refuseExisting(output, { force: options.force === true });
  const { signal } = context;
  const paths = (list: string[]) => list.map((path) => resolve(context.cwd, path));
  const modelDir = resolve(context.cwd, options.model);

  const [{ describeBase, openModel }, { loadTokenizer }, { TrainerProcess }, peft, rowsOf] =
    await Promise.all([
      import('../../lora/models/model.ts'),
      import('../../lora/data/tokenizer.ts'),
      import('../../lora/train/supervisor.ts'),
      import('../../lora/adapter/peft.ts'),
      import('../train-rows.ts'),
    ]);
  await openModel(modelDir);
  const base = await describeBase(modelDir, { signal });
  const tokenizer = await loadTokenizer(modelDir);
  const pack = { sequenceLength: options.sequenceLength, signal };
  const data = await rowsOf.packFiles(paths(options.data), tokenizer, pack);
  const heldOut = options.heldOut ? await rowsOf.packFiles(paths(options.heldOut), tokenizer, pack) : null;
  const settings = await settingsOf(options, data.rows.length);
  const steps = settings.training.totalSteps;

  const trainer = await TrainerProcess.start(
    {
      modelDir,
      cacheDir: join(resolveCache(context.environment, context.cwd), base.digest),
      engine: options.engine,
      threads: options.threads,
      ...settings,
    },
    { signal },
  );
  const progress = new ProgressLine(context);
  try {
    const { layout } = trainer;
    const parameters = peft.adapterSize(layout);
    const plan = { tokens: data.tokens, rows: data.rows.length, steps, parameters };
    if (options.json) printJson(context, { schemaVersion: 1, event: 'plan', ...plan });
    else {
      printLines(context, [
        `${formatCount(data.tokens)} tokens in ${formatCount(plan.rows)} rows, ${formatCount(steps)} steps, ` +
          `${formatCount(parameters)} adapter parameters`,
      ]);
    }
    let adapter = peft.initAdapter(layout, options.seed);
    const heldOutLoss = async () =>
      heldOut && meanLoss(await trainer.evaluate({ adapter, rows: heldOut.rows, signal }));
    const lossBefore = await heldOutLoss();
    if (lossBefore !== null && !options.json)
      printLines(context, [`held-out loss ${formatLoss(lossBefore)}`]);

    const rows = rowsOf.epochs(data.rows, options.seed);
    const save = () =>
      peft.writePeftFolder(output, {
        layout,
        tensors: adapter,
        lora: settings.lora,
        baseModelName: modelDir,
        baseDigest: base.digest,
      });
    const totals = { step: 0, tokens: 0, seconds: 0, loss: Number.NaN };
    try {
      while (totals.step < steps) {
        const count = Math.min(STEPS_PER_CALL, steps - totals.step);
        const batch = Array.from({ length: count * settings.training.batchSize }, () => rows.next().value);
        const outcome = await trainer.train({
          adapter,
          rows: batch,
          steps: count,
          signal,
          onProgress: ({ step, loss, tokensPerSecond, learningRate }) => {
            const done = totals.step + step;
            const left =
              ((steps - done) * settings.training.batchSize * options.sequenceLength) / tokensPerSecond;
            if (options.json) {
              printJson(context, {
                schemaVersion: 1,
                event: 'step',
                step: done,
                steps,
                loss,
                learningRate,
                tokensPerSecond,
              });
            } else {
              progress.update(
                `step ${done}/${steps}  loss ${formatLoss(loss)}  ${formatCount(tokensPerSecond)} tokens/s  ` +
                  `${formatDuration(left)} left`,
              );
            }
          },
        });
        adapter = outcome.adapter;
        totals.step += outcome.steps;
        totals.tokens += outcome.tokens;
        totals.seconds += outcome.seconds;
        totals.loss = outcome.lossLast;
      }
    } catch (error) {
      progress.clear();
      // What has been trained is kept: the interruption costs the last steps, not the run.
      if (totals.step > 0) {
        await save();
        context.stderr.write(`swarm: the adapter after step ${totals.step} is in ${output}\n`);
      }
      signal.throwIfAborted();
      throw error;
    }
    progress.clear();
    await save();
    const lossAfter = await heldOutLoss();
    const result = {
      ...totals,
      tokensPerSecond: totals.tokens / totals.seconds,
      lossBefore,
      lossAfter,
      adapter: output,
    };
    if (options.json) printJson(context, { schemaVersion: 1, event: 'trained', ...result });
    else printLines(context, resultLines(result, { model: options.model, bytes: parameters * 4 }));
  } finally {
    progress.clear();
    await trainer.stop();
  }
}

async function settingsOf(options: TrainOptions, rows: number) {
  const { trainingConfigSchema } = await import('../../lora/train/config.ts');
  const steps = options.steps ?? Math.max(1, Math.ceil((rows * options.epochs) / options.batchSize));
  const training = trainingConfigSchema.parse({
    learningRate: options.learningRate,
    schedule: options.schedule,
    warmupSteps: options.warmup,
    batchSize: options.batchSize,
    microBatch: Math.min(options.microBatch ?? options.batchSize, options.batchSize),
    sequenceLength: options.sequenceLength,
    totalSteps: steps,
  });
  const { rank, alpha = 2 * rank, target } = options;
  return { training, lora: { rank, alpha, targets: target ?? 'all-linear' } };
}

/** Nats per predicted token over all rows. */
function meanLoss(losses: readonly RowLoss[]): number {
  const tokens = losses.reduce((sum, row) => sum + row.tokens, 0);
  return losses.reduce((sum, row) => sum + row.lossSum, 0) / tokens;
}

interface Result {
  step: number;
  tokens: number;
  seconds: number;
  loss: number;
  tokensPerSecond: number;
  lossBefore: number | null;
  lossAfter: number | null;
  adapter: string;
}

function resultLines(result: Result, { model, bytes }: { model: string; bytes: number }): string[] {
  const { lossBefore, lossAfter } = result;
  const heldOut =
    lossBefore === null || lossAfter === null
      ? []
      : [`held-out loss ${formatLoss(lossAfter)} (${formatChange(lossAfter - lossBefore)})`];
  return [
    `${formatCount(result.step)} steps, ${formatCount(result.tokens)} tokens in ${formatDuration(result.seconds)} ` +
      `(${formatCount(result.tokensPerSecond)} tokens/s), last training loss ${formatLoss(result.loss)}`,
    ...heldOut,
    `adapter ${result.adapter} (${formatBytes(bytes)})`,
    `next: swarm generate --model ${model} --adapter ${result.adapter} --prompt "…"`,
  ];
}
