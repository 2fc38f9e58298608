import { resolve } from 'node:path';
import type { Command } from 'commander';
import type { TrainingConfig } from '../../lora/train/config.ts';
import { formatChange, formatCount, formatDuration, formatLoss } from '../../monitor/text.ts';
import type { Context } from '../context.ts';
import { claimOutput } from '../folders.ts';
import { resolveCache } from '../homes.ts';
import { collect, integer, jsonOption } from '../options.ts';
import { ProgressLine, printJson, printLines } from '../print.ts';
import type { TrainListener, TrainPlan, TrainStep } from '../train-run.ts';
import { addTrainingOptions, type TrainingFlags } from '../training-options.ts';

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
  await claimOutput(output, { force: options.force === true });
  const [{ trainAlone }, { trainingConfigSchema }, { loraConfig }] = await Promise.all([
    import('../train-run.ts'),
    import('../../lora/train/config.ts'),
    import('../../lora/adapter/config.ts'),
  ]);
  const paths = (list: readonly string[]): string[] => list.map((path) => resolve(context.cwd, path));
  const { rank, alpha = 2 * rank, target, batchSize } = options;
  const training = (rows: number): TrainingConfig =>
    trainingConfigSchema.parse({
      learningRate: options.learningRate,
      schedule: options.schedule,
      warmupSteps: options.warmup,
      batchSize,
      microBatch: Math.min(options.microBatch ?? batchSize, batchSize),
      sequenceLength: options.sequenceLength,
      totalSteps: options.steps ?? Math.max(1, Math.ceil((rows * options.epochs) / batchSize)),
    });
  const progress = new ProgressLine(context);
  const listener: TrainListener = {
    onPlan(made) {
      if (options.json) printJson(context, { schemaVersion: 1, event: 'plan', ...made });
      else printLines(context, planLines(made));
    },
    onStep(step) {
      if (options.json) printJson(context, { schemaVersion: 1, event: 'step', ...step });
      else progress.update(stepLine(step));
    },
    onPartial({ step }) {
      progress.clear();
      context.stderr.write(`swarm: the adapter after step ${step} is in ${output}\n`);
    },
  };
  try {
    const { totals, lossBefore, lossAfter } = await trainAlone(
      {
        modelDir: resolve(context.cwd, options.model),
        data: paths(options.data),
        heldOut: options.heldOut ? paths(options.heldOut) : null,
        output,
        cacheDir: resolveCache(context.environment, context.cwd),
        engine: options.engine,
        threads: options.threads,
        lora: loraConfig({ rank, alpha, targets: target ?? 'all-linear' }),
        training,
        seed: options.seed,
        signal: context.signal,
      },
      listener,
    );
    progress.clear();
    const tokensPerSecond = totals.tokens / totals.seconds;
    const result = { ...totals, tokensPerSecond, lossBefore, lossAfter, adapter: output };
    if (options.json) printJson(context, { schemaVersion: 1, event: 'trained', ...result });
    else printLines(context, resultLines(result, options.model));
  } finally {
    progress.clear();
  }
}

function planLines({ tokens, rows, steps, parameters, heldOutLoss }: TrainPlan): string[] {
  return [
    `${formatCount(tokens)} tokens in ${formatCount(rows)} rows, ${formatCount(steps)} steps, ` +
      `${formatCount(parameters)} adapter parameters`,
    ...(heldOutLoss === null ? [] : [`held-out loss ${formatLoss(heldOutLoss)}`]),
  ];
}

function stepLine({ step, steps, loss, tokensPerSecond, secondsLeft }: TrainStep): string {
  return (
    `step ${step}/${steps}  loss ${formatLoss(loss)}  ${formatCount(tokensPerSecond)} tokens/s  ` +
    `${formatDuration(secondsLeft)} left`
  );
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

function resultLines(result: Result, model: string): string[] {
  const { lossBefore, lossAfter } = result;
  const heldOut =
    lossBefore === null || lossAfter === null
      ? []
      : [`held-out loss ${formatLoss(lossAfter)} (${formatChange(lossAfter - lossBefore)})`];
  return [
    `${formatCount(result.step)} steps, ${formatCount(result.tokens)} tokens in ${formatDuration(result.seconds)} ` +
      `(${formatCount(result.tokensPerSecond)} tokens/s), last training loss ${formatLoss(result.loss)}`,
    ...heldOut,
    `adapter ${result.adapter}`,
    `next: swarm generate --model ${model} --adapter ${result.adapter} --prompt "…"`,
  ];
}
