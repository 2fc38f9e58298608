import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { requireNoFile } from '../../common/files/folders.ts';
import { resolveCache } from '../../common/files/user-folders.ts';
import type {
  AdapterVersion,
  FinetuneEstimate,
  FinetuneResult,
  FinetuneSettings,
  Publication,
} from '../../index.ts';
import { mergeComputeInputs } from '../../lora/train/compute.ts';
import { PRESETS } from '../../lora/train/presets.ts';
import { ADAPTER_HELP, adapterFolder } from '../adapter/folder.ts';
import { adapterName, registryOption, withRegistry } from '../adapter/with-registry.ts';
import type { Context } from '../context.ts';
import { noCard, notPublished, usageError } from '../errors.ts';
import { cacheFolder } from '../folders.ts';
import { BASE_MODEL, baseFolder } from '../models/base-model.ts';
import {
  BASE_BITS_HELP,
  baseBits,
  CHECKPOINTING_HELP,
  collect,
  ENGINE_THREADS,
  integer,
  jsonOption,
  notAFlag,
  number,
  precisionOption,
} from '../options/common.ts';
import { addDataOptions, DATA_FILES } from '../options/data.ts';
import { enginesOption, environmentCompute } from '../options/engine.ts';
import { addAdapterOptions, addOptimizerOptions, choice } from '../options/training.ts';
import { printJson, printWrapped, terminalColumns } from '../print.ts';
import { flagLayer, type TrainFlags } from '../train/flag-layer.ts';
import { TrainReport } from '../train/report.ts';
import type { RunCurve } from '../train/run-curve.ts';

export function registerTrain(program: Command, context: Context): void {
  const command = program
    .command('train')
    .description('fine-tune a model on this machine alone, without a swarm')
    .optionsGroup('Basic:')
    .option('--model <model>', `base model: ${BASE_MODEL}`)
    .option('--data <path...>', `training data, as ${DATA_FILES}`, collect)
    .option('--output <dir>', 'folder for the PEFT adapter and the checkpoints of the run')
    .addOption(
      choice(
        '--preset <name>',
        'choose settings that suit the model and the data, and print the reasons',
        PRESETS,
      ),
    )
    .option('--steps <n>', 'optimiser steps to train for (default: as many as the epochs need)', integer(1))
    .addOption(
      new Option('--epochs <n>', 'passes over the training data, such as 3 or 0.5 (default: 1)')
        .argParser(number(1e-6))
        .conflicts('steps'),
    )
    .option(
      '--from <adapter>',
      `adapter to start from: ${ADAPTER_HELP}; the run uses the LoRA settings and the chat template of this adapter (default: a new adapter)`,
    )
    .option('--dry-run', 'only estimate the memory, disk space and time of the run')
    .option(
      '--resume',
      'continue from the newest checkpoint in the output folder, with the settings saved in it',
    )
    .option('--force', 'overwrite files in the output folder')
    .option(
      '--config <file>',
      'YAML file with the keys of a job file and a section "run" (docs/training.md). Flags override the settings of the file',
    )
    .option(
      '--seed <n>',
      'seed of the initial adapter, the order of the data, dropout and noise (default: 0)',
      integer(0, 0xffffffff),
    )
    .addOption(jsonOption())
    .optionsGroup('Data:')
    .option(
      '--held-out <path...>',
      'held-out data to measure the loss on: files, or a fraction of the training examples such as 0.05 (default: none)',
      collect,
    );
  command
    .optionsGroup('Registry:')
    .option(
      '--name <name>',
      'name of the adapter in the registry, to which the run adds a version when it ends (default: the name of the output folder)',
      adapterName,
    )
    .option('--no-publish', 'do not add the adapter to the registry')
    .addOption(registryOption())
    .optionsGroup('Data:');
  addDataOptions(command, { packing: true });
  addAdapterOptions(command);
  addOptimizerOptions(command);
  command
    .optionsGroup('Compute and memory:')
    .addOption(enginesOption())
    .option('--threads <n>', ENGINE_THREADS, integer(1, 1024))
    .option('--base-bits <bits>', `${BASE_BITS_HELP} (default: 32)`, baseBits)
    .addOption(precisionOption(' (default: float32)'))
    .option('--gradient-checkpointing', CHECKPOINTING_HELP)
    .option('--no-gradient-checkpointing', 'never use gradient checkpointing, even if memory is short')
    .optionsGroup('Evaluation and checkpoints:')
    .option(
      '--evaluate-every <steps>',
      'optimiser steps between measurements of the held-out loss (default: only before and after training)',
      integer(0),
    )
    .option(
      '--patience <n>',
      'stop after n measurements of the held-out loss without an improvement (default: never)',
      integer(1, 1_000_000),
    )
    .option(
      '--min-delta <nats>',
      'the held-out loss must decrease by more than this to count as an improvement for --patience (default: 0)',
      number(0, 100),
    )
    .addOption(
      choice(
        '--final <which>',
        'which adapter to write at the end: the one with the best held-out loss, or the last one (default: best)',
        ['best', 'last'],
      ),
    )
    .option(
      '--checkpoint-every <steps>',
      'optimiser steps between checkpoints; with 0, the run saves a checkpoint only at a new best held-out loss, when it is interrupted, and when it ends (default: 100)',
      integer(0),
    )
    .option(
      '--keep-checkpoints <n>',
      'number of newest checkpoints to keep, besides the best one (default: 2)',
      integer(1, 10_000),
    )
    .option(
      '--tensorboard <folder>',
      'add the curves of the run to this folder while it trains; the command "tensorboard --logdir FOLDER" shows them',
      notAFlag,
    )
    .action(() => train(context, given(command)));
}

/** Returns the flags that the command line sets, without defaults. */
function given(command: Command): TrainFlags {
  const all = Object.entries(command.opts());
  return Object.fromEntries(
    all.filter(([name]) => command.getOptionValueSource(name) === 'cli'),
  ) as TrainFlags;
}

async function train(context: Context, flags: TrainFlags): Promise<void> {
  const [{ estimateFinetune, finetune }, { mergeLayers }, { readConfigFile }] = await Promise.all([
    import('../../index.ts'),
    import('../../lora/finetune/settings/settings.ts'),
    import('../../lora/finetune/settings/config-file.ts'),
  ]);
  const { cwd, environment, clock, signal } = context;
  const { resume, force, dryRun } = flags;
  const file = flags.config ? await readConfigFile(resolve(cwd, flags.config)) : null;
  const start = flags.from ?? file?.start;
  const from = start === undefined ? undefined : await adapterFolder(context, start, flags);
  const output = flags.output === undefined ? file?.output : resolve(cwd, flags.output);
  if (output === undefined && !dryRun) throw usageError('no output folder is given', 'add --output DIR');
  const options = {
    // `finetune` checks the settings, which may still be of any type here.
    settings: mergeLayers(file?.layer ?? {}, flagLayer(flags, cwd)) as FinetuneSettings,
    resume,
    from,
    compute: mergeComputeInputs(flags, file?.compute ?? {}),
    computeDefaults: mergeComputeInputs(file?.computeDefaults ?? {}, environmentCompute(environment)),
    // A dry run writes nothing, so it does not create the cache folder.
    cacheDir: dryRun ? resolveCache(environment, cwd) : await cacheFolder(context),
    now: clock.now(),
    signal,
  };
  const publication = {
    ...(resume && output !== undefined ? await keptPublication(output) : {}),
    ...publicationOf(flags, cwd),
  };
  if (output !== undefined && publication.publish !== false) {
    const { requireRunName } = await import('../../registry/publish-run.ts');
    requireRunName({ output, name: publication.name });
  }
  const { tensorboard } = publication;
  const curve =
    tensorboard === undefined || dryRun
      ? null
      : await openCurve(tensorboard, output as string, {
          clock,
          onFailure: (error) => report.onWarning(error),
        });
  const report = new TrainReport({ json: flags.json === true, output: output ?? null, curve }, context);
  const findBase = (base: string) => baseFolder(context, base);
  try {
    if (dryRun) {
      const deps = { findBase, folder: cwd };
      const estimated = await estimateFinetune({ ...options, output: output ?? null }, report, deps);
      await printEstimate(context, report, estimated, flags);
    } else {
      const began = { ...options, output: output as string, force, publication };
      const result = await finetune(began, report, { findBase });
      const run = { output: output as string, result };
      const isPublished = publication.publish !== false;
      await writeCard(context, report, run, { force, name: publication.name });
      report.onTrained(result, isPublished ? await publish(context, report, run, publication) : null);
    }
  } finally {
    report.end();
  }
}

async function openCurve(...parameters: Parameters<typeof RunCurve.open>): Promise<RunCurve> {
  // This module is loaded only now, because it imports the whole library.
  const { RunCurve } = await import('../train/run-curve.ts');
  return RunCurve.open(...parameters);
}

/**
 * Returns what the flags say about the registry and TensorBoard. A name or a registry undoes the --no-publish of an earlier
 * call.
 */
function publicationOf({ name, publish, registry, tensorboard }: TrainFlags, cwd: string): Publication {
  return {
    ...(name !== undefined && { name, publish: true }),
    ...(registry !== undefined && { registry: resolve(cwd, registry), publish: true }),
    ...(publish === false && { publish }),
    ...(tensorboard !== undefined && { tensorboard: resolve(cwd, tensorboard) }),
  };
}

/** Returns what an earlier call has stored in the newest checkpoint. */
async function keptPublication(output: string): Promise<Publication> {
  const { CheckpointFolder } = await import('../../lora/finetune/checkpoints.ts');
  await requireNoFile(output);
  return (await new CheckpointFolder({ output, keep: 1 }).newest())?.settings.publication ?? {};
}

/** Writes the model card of a finished run. A failure is only a warning, because the adapter is in the output folder. */
async function writeCard(
  { signal }: Context,
  report: TrainReport,
  run: { output: string; result: FinetuneResult },
  { name, force }: TrainFlags,
): Promise<void> {
  const { writeRunCard } = await import('../../index.ts');
  try {
    await writeRunCard({ ...run, name, force });
  } catch (error) {
    signal.throwIfAborted();
    report.onWarning(noCard(error, run.output));
  }
}

/**
 * Adds the adapter of a finished run to the registry. A failure is only a warning, because the adapter is in the output
 * folder.
 * @returns the version; null after a failure
 */
async function publish(
  context: Context,
  report: TrainReport,
  run: { output: string; result: FinetuneResult },
  { name, registry: home }: Publication,
): Promise<AdapterVersion | null> {
  const { publishRun } = await import('../../index.ts');
  const { cwd, environment, signal } = context;
  try {
    return await withRegistry(context, { registry: home }, async (registry) => {
      const options = { ...run, name, cacheDir: resolveCache(environment, cwd), signal };
      return (await publishRun(registry, options)).version;
    });
  } catch (error) {
    signal.throwIfAborted();
    report.onWarning(notPublished(error, run.output));
    return null;
  }
}

/** Prints an estimate. @throws SwarmError DOES_NOT_FIT, after the estimate is printed */
async function printEstimate(
  context: Context,
  report: TrainReport,
  { spec, estimate }: FinetuneEstimate,
  { json }: TrainFlags,
): Promise<void> {
  const [{ refuseIfTooLarge }, { estimateLines }] = await Promise.all([
    import('../../lora/finetune/estimate.ts'),
    import('../views/estimate.ts'),
  ]);
  report.end();
  if (json) printJson(context, { schemaVersion: 1, event: 'estimate', ...estimate, spec });
  else printWrapped(context, estimateLines(estimate, spec, terminalColumns(context)), 2);
  refuseIfTooLarge(estimate);
}
