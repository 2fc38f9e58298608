import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import type { Precision } from '../../lora/engines/precision.ts';
import type { BaseBits } from '../../lora/models/base-bits.ts';
import { type ComputeInput, parseCompute } from '../../lora/train/compute.ts';
import { PRESETS, type PresetName } from '../../lora/train/presets.ts';
import { BASE_MODEL, baseFolder } from '../base-model.ts';
import type { Context } from '../context.ts';
import { addDataOptions, DATA_FILES, type DataFlags } from '../data-options.ts';
import { enginesOption, environmentCompute, resolveEngine } from '../engine.ts';
import { usageError } from '../errors.ts';
import { cacheFolder } from '../folders.ts';
import { resolveCache } from '../homes.ts';
import {
  BASE_BITS_HELP,
  baseBits,
  CHECKPOINTING_HELP,
  collect,
  ENGINE_THREADS,
  integer,
  jsonOption,
  number,
  precisionOption,
} from '../options.ts';
import { printJson, printLines } from '../print.ts';
import { flagLayer } from '../train/flag-layer.ts';
import { TrainReport } from '../train/report.ts';
import {
  type AdapterFlags,
  addAdapterOptions,
  addOptimizerOptions,
  choice,
  type OptimizerFlags,
} from '../training-options.ts';

export interface TrainFlags extends AdapterFlags, OptimizerFlags, Partial<DataFlags> {
  config?: string;
  preset?: PresetName;
  model?: string;
  data?: string[];
  heldOut?: string[];
  output?: string;
  force?: boolean;
  resume?: boolean;
  checkpointEvery?: number;
  keepCheckpoints?: number;
  final?: string;
  steps?: number;
  epochs?: number;
  evaluateEvery?: number;
  patience?: number;
  minDelta?: number;
  seed?: number;
  threads?: number;
  baseBits?: BaseBits;
  precision?: Precision;
  gradientCheckpointing?: boolean;
  engine?: string;
  dryRun?: boolean;
  json?: boolean;
}

export function registerTrain(program: Command, context: Context): void {
  const command = program
    .command('train')
    .description('fine-tune on this machine alone: the training of the swarm without a swarm')
    .optionsGroup('Settings:')
    .option('--config <file>', 'YAML with the keys of a job file and a block "run"; flags win over it')
    .addOption(choice('--preset <name>', 'choose settings from the model and the data, and say why', PRESETS))
    .option('--dry-run', 'print memory, time and disk that it would take; train nothing')
    .optionsGroup('Model and data:')
    .option('--model <model>', `base model: ${BASE_MODEL}`)
    .option('--data <path...>', DATA_FILES, collect)
    .option(
      '--held-out <path...>',
      'data to measure the loss on; or a share of the examples that is not trained: 0.05',
      collect,
    );
  addDataOptions(command, { packing: true });
  command
    .optionsGroup('Output:')
    .option('--output <dir>', 'where the PEFT adapter and the checkpoints are written')
    .option('--force', 'overwrite the output folder')
    .option('--resume', 'go on with the newest checkpoint in the output folder, with its settings')
    .option(
      '--checkpoint-every <steps>',
      'steps between checkpoints; 0: only when interrupted, at a new best, at the end (default: 100)',
      integer(0),
    )
    .option(
      '--keep-checkpoints <n>',
      'newest ones that stay, beside the best (default: 2)',
      integer(1, 10_000),
    )
    .addOption(
      choice(
        '--final <which>',
        'adapter in the output: the best that was measured, or the last (default: best)',
        ['best', 'last'],
      ),
    )
    .optionsGroup('Length:')
    .option('--steps <n>', 'optimiser steps (default: as the epochs give)', integer(1))
    .addOption(
      new Option('--epochs <n>', 'passes over the data (default: 1)')
        .argParser(number(1e-6))
        .conflicts('steps'),
    )
    .option(
      '--evaluate-every <steps>',
      'steps between measurements of the held-out loss (default: before and after)',
      integer(0),
    )
    .option('--patience <n>', 'stop after so many measurements without improvement', integer(1, 1_000_000))
    .option('--min-delta <nats>', 'least improvement that counts for patience (default: 0)', number(0, 100))
    .option(
      '--seed <n>',
      'of the adapter, the order of the data, dropout and noise (default: 0)',
      integer(0, 0xffffffff),
    );
  addAdapterOptions(command);
  addOptimizerOptions(command);
  command
    .optionsGroup('Machine:')
    .option('--threads <n>', ENGINE_THREADS, integer(1, 1024))
    .addOption(enginesOption())
    .option('--gradient-checkpointing', CHECKPOINTING_HELP)
    .option('--no-gradient-checkpointing', 'do not, whatever the memory')
    .option('--base-bits <bits>', `${BASE_BITS_HELP} (default: 32)`, baseBits)
    .addOption(precisionOption(' (default: float32)'))
    .optionsGroup('Options:')
    .addOption(jsonOption())
    .action(() => train(context, given(command)));
}

/** What was said on the command line, without defaults. */
function given(command: Command): TrainFlags {
  const all = Object.entries(command.opts());
  return Object.fromEntries(
    all.filter(([name]) => command.getOptionValueSource(name) === 'cli'),
  ) as TrainFlags;
}

async function train(context: Context, flags: TrainFlags): Promise<void> {
  const [
    { trainAlone, trainingConfig },
    { computeInputOf, resolveSpec, mergeLayers, shareRows },
    { devicesDoubt, idleSettings, warmupDoubt },
    { readConfigFile },
    { CheckpointFolder },
    { openBase },
  ] = await Promise.all([
    import('../../lora/finetune/finetune.ts'),
    import('../../lora/finetune/settings.ts'),
    import('../../lora/finetune/warnings.ts'),
    import('../train/config-file.ts'),
    import('../../lora/finetune/checkpoints.ts'),
    import('../../lora/models/base-model.ts'),
  ]);
  const { resume = false, force = false } = flags;
  if (resume && force) throw usageError('--resume goes on with a run, --force begins anew: choose one');
  const {
    output: named,
    engine,
    baseBits,
    precision,
    gradientCheckpointing,
    ...file
  } = flags.config ? await readConfigFile(resolve(context.cwd, flags.config)) : {};
  const fileCompute: ComputeInput = { baseBits, precision, gradientCheckpointing };
  const output = flags.output === undefined ? named : resolve(context.cwd, flags.output);
  if (output === undefined && !flags.dryRun)
    throw usageError('no output folder was named', 'add --output DIR');
  const report = new TrainReport({ json: flags.json === true, output: output ?? null }, context);
  const said = mergeLayers(file, flagLayer(flags, context.cwd));
  const before =
    resume && output !== undefined
      ? await new CheckpointFolder({ output, keep: 1 }).newest((error) => report.onWarning(error))
      : null;
  const whole = mergeLayers(before?.settings.spec ?? {}, said);
  if (whole.base === undefined) throw usageError('no base model was named', 'add --model MODEL');
  if (whole.data?.train === undefined) throw usageError('no data to train on was named', 'add --data PATH');
  const layer = { ...whole, base: await baseFolder(context, whole.base) };
  const asked = parseCompute(
    flags,
    // What `auto` in a file has become in a run is in its checkpoints.
    engine === 'auto' ? fileCompute : { ...fileCompute, engine },
    before === null ? {} : computeInputOf(before.settings),
    { engine },
    environmentCompute(context.environment),
  );
  const model = await openBase(layer.base);
  const { compute, reason: chosen } = await resolveEngine(context, asked, model);
  if (chosen !== null) report.onEngine({ engine: compute.devices[0].engine, reason: chosen });
  const machine = {
    compute,
    // A dry run makes nothing.
    cacheDir: flags.dryRun ? resolveCache(context.environment, context.cwd) : await cacheFolder(context),
    now: context.clock.now(),
    signal: context.signal,
  };
  const preset = before === null ? (layer.preset as PresetName | null | undefined) : null;
  const settings = preset
    ? await (await import('../../lora/finetune/preset.ts')).presetLayer(preset, layer, machine)
    : null;
  if (preset && settings) report.onPreset(preset, settings.choices);
  const filled = mergeLayers(settings?.layer ?? {}, layer);
  const { spec, reason } = shareRows(filled, resolveSpec(filled), compute.devices.length);
  if (reason !== null) report.onBatchShared(spec.training.microBatch, reason);
  for (const idle of idleSettings(said, spec)) report.onWarning(idle);
  const waiting = devicesDoubt(spec.training, compute.devices);
  if (waiting !== null) report.onWarning(waiting);
  if (flags.dryRun) {
    const { estimateRun, estimateLines, refuseIfTooLarge } = await import('../../lora/finetune/dry-run.ts');
    const estimate = await estimateRun(spec, { ...machine, output: output ?? context.cwd });
    if (flags.json) printJson(context, { schemaVersion: 1, event: 'estimate', ...estimate, spec });
    else printLines(context, estimateLines(estimate, spec));
    const doubt = warmupDoubt(trainingConfig(spec, estimate.rows));
    if (doubt !== null) report.onWarning(doubt);
    refuseIfTooLarge(estimate);
    return;
  }
  try {
    const options = { spec, output: output!, resume, newest: before, force, ...machine };
    report.onTrained(await trainAlone(options, report), spec);
  } finally {
    report.end();
  }
}
