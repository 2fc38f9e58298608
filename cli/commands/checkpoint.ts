import { writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import { claimOutput } from '../../common/files/folders.ts';
import { copyCheckpoint } from '../../coordinator/client/copy-checkpoint.ts';
import { requireKept } from '../../coordinator/require-kept.ts';
import type { ApiClient, CheckpointView, GgufType } from '../../index.ts';
import type { ExportForm } from '../../registry/export/card-parts.ts';
import type { CurvePoint } from '../../registry/export/checkpoint-card.ts';
import { adapterName, registryFolder, registryOption, withRegistry } from '../adapter/with-registry.ts';
import type { Context } from '../context.ts';
import { chooseJob, coordinatorApi, JOB_ARGUMENT } from '../daemon/connect.ts';
import { usageError } from '../errors.ts';
import { BASE_MODEL, baseFolder } from '../models/base-model.ts';
import { ggufOption, writingModel } from '../models/gguf.ts';
import { homeOption, jsonOption, roundOrBest } from '../options/common.ts';
import { printJson, printLines, terminalColumns } from '../print.ts';
import { versionJson } from '../views/adapters.ts';
import {
  betterLines,
  checkpointLines,
  checkpointTable,
  initialLines,
  sampleLines,
} from '../views/checkpoints.ts';
import { registerPull } from './checkpoint-pull.ts';

interface CommonOptions {
  home?: string;
  json?: boolean;
}

interface RoundOptions extends CommonOptions {
  round?: number | 'best';
}

/** Option of the commands that take one checkpoint. */
const ROUND = [
  '--round <round>',
  'round of the checkpoint, or "best" for the best checkpoint of the job (default: the newest checkpoint)',
  roundOrBest,
] as const;

export function registerCheckpoint(program: Command, context: Context): void {
  const checkpoint = program
    .command('checkpoint')
    .helpCommand(false)
    .description('list, show, export and pull the checkpoints of a job');
  const add = (name: string, text: string): Command =>
    checkpoint.command(name).description(text).addOption(homeOption()).addOption(jsonOption());

  add('list', 'list the checkpoints of a job with their held-out loss')
    .argument(...JOB_ARGUMENT)
    .action((job: string | undefined, options: CommonOptions) => list(context, job, options));
  add('show', 'show one checkpoint: its parent, contributors, metrics and samples')
    .argument(...JOB_ARGUMENT)
    .option(...ROUND)
    .action((job: string | undefined, options: RoundOptions) => show(context, job, options));
  add('export', 'write a checkpoint to a folder: as a PEFT adapter, merged into its base, or as GGUF')
    .argument(
      '<job>',
      'name of a job, its digest or the beginning of the digest; or, with --merge or --gguf, a PEFT folder',
    )
    .argument('<dir>', 'folder to write to')
    .option(...ROUND)
    .option('--merge', 'write a merged model: the base with the adapter added to its weights')
    .addOption(ggufOption('merge'))
    .option('--model <model>', `base model for --merge and --gguf: ${BASE_MODEL}`)
    .option('--force', 'write into <dir> even if it is not empty')
    .action((job: string, dir: string, options: ExportOptions) => exportTo(context, job, dir, options));
  add('publish', 'add a checkpoint of a job to the registry of adapters')
    .argument(...JOB_ARGUMENT)
    .option(...ROUND)
    .option(
      '--name <name>',
      'name of the adapter in the registry (default: the name of the job)',
      adapterName,
    )
    .addOption(registryOption())
    .action((job: string | undefined, options: PublishOptions) => publish(context, job, options));
  registerPull(checkpoint, context);
}

async function list(context: Context, job: string | undefined, options: CommonOptions): Promise<void> {
  const api = await coordinatorApi(context, options);
  const checkpoints = await api.checkpoints(await chooseJob(api, job));
  if (options.json) printJson(context, { schemaVersion: 1, checkpoints });
  else printLines(context, checkpointTable(checkpoints, terminalColumns(context)));
}

async function show(context: Context, job: string | undefined, options: RoundOptions): Promise<void> {
  const api = await coordinatorApi(context, options);
  const view = await find(api, job, options.round);
  const { result: samples } = await api.samples(view.checkpoint.job, view.round);
  if (options.json) printJson(context, { schemaVersion: 1, ...view, samples });
  else printLines(context, [...checkpointLines(view), ...sampleLines(samples)]);
}

async function find(
  api: ApiClient,
  job: string | undefined,
  round: number | 'best' | undefined,
): Promise<CheckpointView> {
  // Without any measured loss, a job has no best checkpoint, and the coordinator refuses with CHECKPOINT_UNKNOWN.
  return api.checkpoint(await chooseJob(api, job), round ?? 'latest');
}

interface ExportOptions extends RoundOptions {
  merge?: boolean;
  gguf?: GgufType;
  model?: string;
  force?: boolean;
}

async function exportTo(context: Context, job: string, dir: string, options: ExportOptions): Promise<void> {
  const converts = options.merge === true || options.gguf !== undefined;
  if (converts && options.model === undefined) {
    throw usageError(
      `${options.merge ? '--merge' : '--gguf'} needs the base model`,
      'add --model MODEL, with the folder of the base or its name on the hub',
    );
  }
  const output = resolve(context.cwd, dir);
  const { isPeftFolder } = await import('../../lora/adapter/peft.ts');
  const local = converts ? await isPeftFolder(resolve(context.cwd, job)) : false;
  const view = local ? null : await find(await coordinatorApi(context, options), job, options.round);
  if (view !== null) requireKept(view);
  const model = converts ? await baseFolder(context, options.model!) : null;
  await claimOutput(output, { force: options.force === true });
  const adapter = view?.path ?? resolve(context.cwd, job);
  if (model !== null) await convert(context, { base: model, adapter, output }, options);
  else if (view !== null) await copyCheckpoint(view, output);
  if (view !== null) await writeCard(await coordinatorApi(context, options), view, output, formOf(options));
  const round = view?.round ?? null;
  const { merge = false, gguf = null } = options;
  if (options.json) printJson(context, { schemaVersion: 1, output, round, merged: merge, gguf });
  else {
    const what = `${merge ? 'merged model' : 'PEFT adapter'}${gguf === null ? '' : ` as GGUF (${gguf})`}`;
    printLines(context, [`${what}${round === null ? '' : ` of round ${round}`} in ${output}`]);
    if (round !== null) printLines(context, initialLines(round));
    if (view !== null && options.round === undefined) {
      const all = await (await coordinatorApi(context, options)).checkpoints(view.checkpoint.job);
      printLines(context, betterLines(view, all));
    }
  }
}

function formOf({ merge = false, gguf }: ExportOptions): ExportForm {
  if (gguf === undefined) return merge ? 'merged' : 'adapter';
  return merge ? 'gguf-merged' : 'gguf-adapter';
}

/** Writes the model card of a checkpoint into its folder. */
async function writeCard(
  api: ApiClient,
  view: CheckpointView,
  output: string,
  form: ExportForm,
): Promise<void> {
  const { checkpointCard } = await import('../../registry/export/checkpoint-card.ts');
  const { CARD_FILE } = await import('../../registry/export/card.ts');
  const [{ job, baseLoss, manifest, settingsChanges: changes }, curve, { result }] = await Promise.all([
    api.job(view.checkpoint.job),
    curveOf(api, view),
    api.samples(view.checkpoint.job, view.round),
  ]);
  // Leave out the samples of held-out prompts. An exported folder is often published, and held-out data may
  // be private.
  const samples = result?.texts?.filter(({ isHeldOut }) => !isHeldOut) ?? [];
  const { heldOutLoss } = view.checkpoint.metrics;
  const checkpoint = { digest: view.digest, round: view.round, heldOutLoss };
  const figures = view.tasks?.figures ?? null;
  await writeFile(
    join(output, CARD_FILE),
    checkpointCard({ job, manifest, changes, checkpoint, baseLoss, curve, figures, form, samples }),
  );
}

/** Returns the held-out losses of the checkpoints up to this one, oldest first. */
async function curveOf(api: ApiClient, view: CheckpointView): Promise<CurvePoint[]> {
  const all = await api.checkpoints(view.checkpoint.job);
  return all
    .filter(({ round }) => round <= view.round)
    .map(({ round, restores, checkpoint }) => ({
      round,
      restores,
      heldOutLoss: checkpoint.metrics.heldOutLoss,
    }))
    .reverse();
}

interface PublishOptions extends RoundOptions {
  name?: string;
  registry?: string;
}

async function publish(context: Context, job: string | undefined, options: PublishOptions): Promise<void> {
  const { publishCheckpoint, publishable } = await import('../../registry/publish-checkpoint.ts');
  const api = await coordinatorApi(context, options);
  const view = await find(api, job, options.round);
  requireKept(view);
  const { manifest, settingsChanges: changes } = await api.job(view.checkpoint.job);
  const curve = await curveOf(api, view);
  await withRegistry(context, options, async (registry) => {
    const { version, created } = await publishCheckpoint(registry, {
      folder: view.path,
      job: view.checkpoint.job,
      manifest,
      changes,
      checkpoint: publishable(view.digest, view.checkpoint),
      curve,
      name: options.name,
      reason: 'lora-swarm checkpoint publish',
    });
    if (options.json) printJson(context, { schemaVersion: 1, created, ...versionJson(version) });
    else
      printLines(context, [
        `round ${view.round} of job ${manifest.name} is ${version.label} in the registry ${registryFolder(context, options)}`,
      ]);
  });
}

/** Writes a merged model or a GGUF file. */
async function convert(
  context: Context,
  files: { base: string; adapter: string; output: string },
  { merge = false, gguf }: ExportOptions,
): Promise<void> {
  const { exportGguf, mergeModel } = await import('../../index.ts');
  await writingModel(context, async (shared) => {
    // The caller has already refused an output folder that is not empty, so `force` skips a second check.
    if (gguf === undefined) return mergeModel({ ...shared, ...files, force: true });
    await exportGguf({ ...shared, ...files, type: gguf, merge, force: true });
  });
}
